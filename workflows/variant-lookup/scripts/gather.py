"""Puts the regions' counts together into the release, a node's datasets added up: piece by piece, so that memory does
not grow with the file.

The counts of one dataset lie in one folder. A site is left out, and counted by its reason, where its people would count
twice, where its lines disagree about who was called, or where a dataset does not have it and nothing says that absent
means reference.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import tempfile
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from pieces import Pieces, Row
from variants import Counted, normal, why_not_one
from vcf import CLASSES, NO_ALTERNATE, VcfError, fail

NUMBERS = ("ac", "an", *CLASSES)
NAMES = ("chrom", "pos", "ref", "alt")
TEXT_ROWS = 400_000  # of a release, up to which it is JSON, which every node's policy takes
PIECE_LINES = 50_000  # of counts that are put together at once: some 150 MB
GROUP = 131_072  # rows of a group of what is written
AUTOSOMES = frozenset(str(n) for n in range(1, 23))
Place = tuple[str, int, str]
Allele = tuple[str, int, str, str]  # `variants.normal`


class Dataset:
    """One dataset's counts. `sites`: the rows of each (chrom, pos, ref); `withheld`: why some of them cannot count;
    `unnamed`: how many lines no release can name or count, by reason; `people`: how many, 0 where no line told.
    """

    def __init__(self, people: int) -> None:
        self.sites: dict[Place, list[Row]] = {}
        self.withheld: dict[Place, str] = {}
        self.unnamed: Counter[str] = Counter()
        self.people = people
        self._uncounted: set[Place | Allele] = set()
        self._seen: dict[Allele, tuple[tuple[str, int], Place]] = {}

    def add(self, row: Row, part: str) -> None:
        """`part`: which of the dataset's files of counts it is of, as a line has a number of its own in each."""
        place = (row["chrom"], row["pos"], row["ref"])
        if "why" in row:
            self._add_uncounted(row, place, part)
            return
        self.sites.setdefault(place, []).append(row)
        if row["alt"] != NO_ALTERNATE:
            self._see((part, row["line"]), place, row["alt"])

    def _add_uncounted(self, row: Row, place: Place, part: str) -> None:
        """A line that does not count: what it has of a site or an allele is not known, which is not nothing."""
        self.unnamed[row["why"]] += 1
        self._uncounted.add(place)
        for alt in row["alts"]:
            self._uncounted.add(normal(*place, alt))
            self._see((part, row["line"]), place, alt)
        if row["why"] == "polyploid":  # the site's other lines are of other people, or of other copies
            self.withheld[place] = row["why"]

    def _see(self, line: tuple[str, int], place: Place, alt: str) -> None:
        first, before = self._seen.setdefault(normal(*place, alt), (line, place))
        if first != line:  # also where both lines write the allele in another way
            self.withheld[before] = self.withheld[place] = "duplicate-site"

    def close(self) -> None:
        """When all rows are there: which sites have rows of different people."""
        for place, rows in self.sites.items():
            alleles = [row for row in rows if row["alt"] != NO_ALTERNATE]
            self.sites[place] = alleles or rows[:1]
            if place not in self.withheld and (why := why_not_one([counted(row) for row in alleles])):
                self.withheld[place] = why
        self._seen.clear()

    def counts(self, place: Place, alt: str, *, absent_is_reference: bool) -> Mapping[str, int] | None:
        """The numbers of this allele, which nobody carries where the site is there without it; None where they cannot
        be known.
        """
        if normal(*place, alt) in self._uncounted:
            return None
        rows = self.sites.get(place)
        if rows is None:
            if place in self._uncounted:
                return None
            autosome = normal(*place, NO_ALTERNATE)[0] in AUTOSOMES  # elsewhere people have one copy or two
            if not (absent_is_reference and autosome and self.people):
                return None
            return dict.fromkeys(NUMBERS, 0) | {"an": 2 * self.people, "hom_ref": self.people}
        for row in rows:
            if row["alt"] == alt:
                return row
        one = rows[0]
        full, haploid = one["hom_ref"] + one["het"] + one["hom_alt"], one["hemi_ref"] + one["hemi_alt"]
        return {**one, "ac": 0, "hom_ref": full, "het": 0, "hom_alt": 0, "hemi_ref": haploid, "hemi_alt": 0}


def counted(row: Row) -> Counted:
    people = row["hom_ref"] + row["het"] + row["hom_alt"]
    return Counted(row["alt"], row["ac"], row["an"], people, row["half_missing"], row["missing"])


def read(files: Sequence[Path], most: int) -> Pieces:
    """As `Pieces`; ends with 1 where a section was at fault, with the file's own line."""
    try:
        return Pieces(files, most)
    except VcfError as error:
        fail(error)


def gathered(
    lines: Iterable[tuple[Path, Row]], people: Mapping[str, int], reference: Collection[str], skipped: Counter[str]
) -> Iterator[Row]:
    """The release's rows of these lines, which are all that there are of their alleles, in order of first appearance;
    what is left out is added to `skipped`. `people`: of each dataset; `reference`: the folders of datasets where an
    absent site means reference.
    """
    datasets = {name: Dataset(number) for name, number in people.items()}
    for file, row in lines:
        datasets[file.parent.name].add(row, file.stem)
    places: dict[Place, None] = {}
    for dataset in datasets.values():
        dataset.close()
        skipped.update(dataset.unnamed)
        places.update(dict.fromkeys(dataset.sites))
    for place in places:
        yield from _rows(place, datasets, reference, skipped)


def by_position(pieces: Pieces, reference: Collection[str], skipped: Counter[str]) -> Iterator[list[Row]]:
    """The same of all lines, sorted by chromosome (as bytes), position, reference and alternate, in lists."""
    done: set[int] = set()
    for chrom in sorted(pieces.contigs):
        for piece in pieces.of(chrom):
            left_out = Counter[str]()
            rows = gathered(pieces.read(piece), pieces.people, reference, left_out)
            yield sorted((row for row in rows if row["chrom"] == chrom), key=lambda row: [row[name] for name in NAMES])
            if piece not in done:
                skipped.update(left_out)
                done.add(piece)
    for piece in pieces.unnamed():  # of contigs where no line counts
        yield list(gathered(pieces.read(piece), pieces.people, reference, skipped))


def _rows(
    place: Place, datasets: Mapping[str, Dataset], reference: Collection[str], skipped: Counter[str]
) -> Iterator[Row]:
    """The site's rows over all datasets; none where it cannot count, and then the reason is in `skipped`."""
    alts = {row["alt"]: None for d in datasets.values() for row in d.sites.get(place, ()) if row["alt"] != NO_ALTERNATE}
    if not alts:
        return
    if why := next((d.withheld[place] for d in datasets.values() if place in d.withheld), ""):
        skipped[why] += 1
        return
    rows = []
    for alt in alts:
        row: Row = dict(zip(NAMES, (*place, alt), strict=True)) | dict.fromkeys(NUMBERS, 0)
        for name, dataset in datasets.items():
            numbers = dataset.counts(place, alt, absent_is_reference=name in reference)
            if numbers is None:
                skipped["not-in-every-dataset"] += 1
                return
            for number in NUMBERS:
                row[number] += numbers[number]
        rows.append(row)
    yield from rows


def write_text(out: Path, rows: Iterable[Row], skipped: Mapping[str, int]) -> None:
    """The release `gdi-allele-counts/1`. `skipped` is read when all rows are."""
    with out.open("w") as file:
        file.write('{"format":"gdi-allele-counts/1","sites":[')
        for number, row in enumerate(rows):
            file.write("," * bool(number) + json.dumps(row, separators=(",", ":")))
        more = ',"skipped":' + json.dumps(dict(sorted(skipped.items())), separators=(",", ":")) if skipped else ""
        file.write(f"]{more}}}\n")


def write_columns(
    out: Path, rows: Callable[[], Iterator[list[Row]]], skipped: Mapping[str, int], text_rows: int
) -> None:
    """Sorted rows as `gdi-allele-counts/2`, group by group; up to `text_rows` of them as text. The node tells the two
    apart by the file's first bytes. `skipped` is read when all rows are: it stands before them, so that they are
    written twice.
    """
    import polars
    from polars.io.plugins import register_io_source

    texts = {"chrom", "ref", "alt"}
    schema = polars.Schema({n: polars.String if n in texts else polars.Int32 for n in (*NAMES, *NUMBERS)})

    def source(columns: list[str] | None, *_: object) -> Iterator[polars.DataFrame]:
        for piece in rows():
            frame = polars.DataFrame(piece, schema=schema)
            yield frame if columns is None else frame.select(columns)

    with tempfile.TemporaryDirectory(dir=out.parent) as folder:
        found = Path(folder) / "rows"
        frames = register_io_source(source, schema=schema, is_pure=False)
        frames.sink_parquet(found, compression="lz4", row_group_size=GROUP, maintain_order=True)
        whole = polars.scan_parquet(found)
        count = whole.select(polars.len()).collect().item()
        if count <= text_rows:
            groups = (whole.slice(start, GROUP).collect() for start in range(0, count, GROUP))
            write_text(out, (row for group in groups for row in group.iter_rows(named=True)), skipped)
            return
        about = {"format": "gdi-allele-counts/2"} | ({"skipped": dict(sorted(skipped.items()))} if skipped else {})
        whole.sink_parquet(out, row_group_size=GROUP, maintain_order=True, metadata={"gdi": json.dumps(about)})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("files", type=Path, nargs="+")
    parser.add_argument("--reference", nargs="*", default=[], help="folders of datasets where absent means reference")
    parser.add_argument("--text-rows", type=int, default=TEXT_ROWS, help="of more rows than these it is Parquet")
    parser.add_argument("--piece-lines", type=int, default=PIECE_LINES, help="of counts that are in memory at once")
    options = parser.parse_args()
    pieces = read(options.files, options.piece_lines)
    skipped = Counter[str]()
    if pieces.lines <= options.piece_lines or importlib.util.find_spec("polars") is None:
        rows = list(gathered(pieces.all(), pieces.people, options.reference, skipped))
        if len(rows) <= options.text_rows:
            write_text(options.out, rows, skipped)
            return
        skipped.clear()
    write_columns(options.out, lambda: by_position(pieces, options.reference, skipped), skipped, options.text_rows)


if __name__ == "__main__":
    main()
