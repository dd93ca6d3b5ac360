"""Releases as Parquet files: the second half of a kind that is checked and merged batch by batch, in columns, so that
memory does not grow with the file. Standard library and polars; nothing of any one kind.
"""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from gdi.releases.answer import Page, Value
from gdi.releases.disclosure.past import Past
from gdi.releases.rules import Rules, Scope

if TYPE_CHECKING:
    import polars as pl

MAGIC = b"PAR1"
MEDIA_TYPE = "application/vnd.apache.parquet"
SUFFIX = ".parquet"
BATCH = 131_072
"""Rows that are looked at together, and rows of a group of what is written: a region of the sorted file."""
FIRST_ROWS = 1000  # of an answer, that its page has at once; others are asked for
ABOUT = "gdi"  # the key of the file's metadata whose value is JSON of ours


def is_parquet(head: bytes) -> bool:
    """Whether a file that begins so is Parquet, not text."""
    return head[:4] == MAGIC


def is_parquet_file(file: Path) -> bool:
    with file.open("rb") as opened:
        return is_parquet(opened.read(len(MAGIC)))


@dataclass(frozen=True)
class PastColumns:
    """What left before. `past`: the cohorts, without cells. `files`: by number of a cohort, the cells of its releases
    as files of columns, the oldest first. `cells`: the other cells of these keys' topics; None where there are none.
    """

    past: Past = field(default_factory=Past)
    files: Mapping[int, Sequence[Path]] = field(default_factory=dict)
    cells: Callable[[Sequence[str]], Past] | None = None


@dataclass
class ColumnVerdict:
    """What a check found. `units`: how many there are; `released`: how many leave; `withheld`: by reason, at the node;
    `scope`: of whom; `statistics`: numbers of the released that had not left before; `over_budget`: units that passed
    and stay, because `afford` is used up. `shown`: as `NodeHalf.shown`.
    """

    units: int = 0
    released: int = 0
    withheld: Counter[str] = field(default_factory=Counter)
    scope: Scope = field(default_factory=Scope)
    statistics: int = 0
    over_budget: int = 0
    remarks: list[str] = field(default_factory=list)
    shown: Counter[str] = field(default_factory=Counter)


class ColumnCheck(ABC):
    """The node's check of one Parquet file. `folder` is for what it needs to write meanwhile."""

    @abstractmethod
    def judge(self, file: Path, folder: Path, rules: Rules, past: PastColumns, afford: int | None) -> ColumnVerdict:
        """Reads, judges, remembers in `folder`. `afford`: how many numbers that have not left may leave; None without
        bound. FormatError.
        """

    @abstractmethod
    def write(self, folder: Path, out: Path, verdict: ColumnVerdict, public: Mapping[str, int], rules: Rules) -> None:
        """The file that leaves, of what `judge` kept in `folder`. `public`: the withheld, as the centre may know it.
        Equal answers give equal bytes.
        """

    @abstractmethod
    def write_cells(self, folder: Path, out: Path) -> None:
        """What the ledger remembers of it, as a file that `PastColumns.files` takes."""

    @abstractmethod
    def cells_of(self, file: Path, sites: Sequence[str]) -> tuple[dict[str, tuple[int, ...]], dict[str, list[str]]]:
        """The cells at these `vocabulary.site`s in a file that `write_cells` made, and their keys by topic: for
        releases that are checked row by row.
        """

    @abstractmethod
    def rows(self, file: Path, start: int, count: int) -> list[tuple[str | int | float, ...]]:
        """For the reviewer: as `NodeHalf.rows`, of a file that `write` made."""


class AnswerSpan(NamedTuple):
    """A region of an answer: positions of a chromosome, both ends included."""

    chrom: str
    low: int
    high: int


class ColumnMerge(ABC):
    """The coordinator's merge of Parquet files into an answer in Parquet. `schema`: the answer's columns and their
    types; `place`: which of them are chromosome and position.
    """

    schema: ClassVar[Mapping[str, Any]]
    place: ClassVar[tuple[str, str]]

    @abstractmethod
    def merge(
        self, releases: Mapping[str, Path], nodes: Sequence[str], out: Path, missing: Sequence[str] = ()
    ) -> tuple[int, int]:
        """Writes the answer of all nodes, sorted; (rows, rows that are withheld). `missing`: nodes of the run that are
        not in it, named in a last column. BadReleaseError.
        """

    @abstractmethod
    def draw(self, answer: Path, file: Path, *, title: str, nodes: Sequence[str]) -> None:
        """The answer as PNG or SVG, by the file's suffix, in bounded memory."""

    @abstractmethod
    def page(self, answer: Path) -> Page:
        """What the Results tab shows at first: FIRST_ROWS rows, and what the kind's drawing needs."""

    def rows(self, answer: Path, start: int, count: int, span: AnswerSpan | None) -> tuple[int, list[list[Value]]]:
        """How many rows there are (in the region), and at most `count` of them from `start`. ValueError."""
        import polars as pl

        found = pl.scan_parquet(answer)
        if span is not None:
            chrom, pos = (pl.col(name) for name in self.place)
            found = found.filter((chrom == span.chrom) & pos.is_between(span.low, span.high))
        try:
            total = int(found.select(pl.len()).collect().item())
            rows = found.slice(start, count).collect().rows()
        except pl.exceptions.PolarsError as error:
            raise ValueError("the answer cannot be read") from error
        return total, [list(row) for row in rows]

    def regions(self, answer: Path) -> list[str]:
        """The chromosomes, in the answer's order."""
        import polars as pl

        chrom = pl.col(self.place[0])
        changes = pl.scan_parquet(answer).select(chrom).filter((chrom != chrom.shift(1)).fill_null(value=True))
        return [str(name) for name in changes.head(5000).collect().to_series()]


def write_text(answer: Path, file: Path, *, packed: bool) -> None:
    """An answer in columns as tab-separated text, numbers with six digits, nothing for null; `packed`: as gzip."""
    import polars as pl
    from polars import selectors

    pl.scan_parquet(answer).with_columns(selectors.float().round_sig_figs(6)).sink_csv(
        file,
        separator="\t",
        quote_style="never",
        null_value="",
        compression="gzip" if packed else "uncompressed",
        compression_level=1 if packed else None,
        check_extension=False,
    )


def sha256_of(file: Path) -> str:
    """The file's SHA-256 in hex, read piece by piece."""
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def write_batches(
    batches: Callable[[], Iterator[pl.DataFrame]],
    schema: Mapping[str, Any],
    out: Path,
    about: str,
    compression: int = 3,
) -> None:
    """Parquet (zstd, groups of BATCH rows) of frames as they come, in bounded memory. `about`: JSON, kept under ABOUT.
    What `batches` raises is raised.
    """
    import polars as pl
    from polars.io.plugins import register_io_source

    def source(
        with_columns: list[str] | None, _predicate: object, _rows: int | None, _size: int | None
    ) -> Iterator[pl.DataFrame]:
        for frame in batches():
            yield frame if with_columns is None else frame.select(with_columns)

    frames = register_io_source(source, schema=pl.Schema(schema), is_pure=False)
    frames.sink_parquet(
        out,
        compression="zstd",
        compression_level=compression,
        row_group_size=BATCH,
        statistics=True,
        maintain_order=True,
        metadata={ABOUT: about},
    )
