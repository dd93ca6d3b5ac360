"""Reads `gdi-allele-counts/2`: Parquet with the columns of version 1, strictly sorted by chromosome (as bytes),
position, reference and alternate. Every row is looked at; FormatError names the first that is wrong. Memory is that of
a batch.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import polars as pl

from gdi.contracts.variants import ALTERNATE, BASES, CONTIG, MAX_POS, REFERENCE, WITHHELD, normal
from gdi.releases import parquet_pages
from gdi.releases.allele_counts.table import FIELDS, MAX_ALLELES, MAX_CHROMS, MAX_COUNT
from gdi.releases.columns import ABOUT, BATCH
from gdi.releases.disclosure.variants import contig, unfit
from gdi.releases.kind import FormatError

FORMAT = "gdi-allele-counts/2"
KEYS = ("chrom", "pos", "ref", "alt")
PLACE = KEYS[:3]
KEYED = ("k_chrom", "k_pos", "k_ref", "k_alt")  # KEYS, as the ledger names them
NUMBERS = FIELDS[4:]
SCHEMA = {name: pl.String if name in ("chrom", "ref", "alt") else pl.Int32 for name in FIELDS}
MAX_ABOUT = 64 * 1024  # characters of JSON
MAX_RENAMED = 1_000_000  # alleles that are not written in their shortest form
MOST_TOGETHER = 200_000  # rows of records that overlap each other, one after the other
_LETTERS = list(BASES)


def about(
    file: Path, schema: Mapping[str, Any], form: str, optional: Mapping[str, Any] = MappingProxyType({})
) -> dict[str, Any]:
    """The JSON of the file's metadata. FormatError where the columns or the format are others. `optional`: columns
    after those of the schema, which a file has all or none of.
    """
    try:
        parquet_pages.look(file)
        found = pl.read_parquet_schema(file)
        text = pl.read_parquet_metadata(file).get(ABOUT, "")
    except parquet_pages.UnfitParquetError as error:
        raise FormatError(str(error)) from None
    except (pl.exceptions.PolarsError, OSError, ValueError) as error:
        raise FormatError("it is no Parquet file that can be read") from error
    schema = {**schema, **optional} if any(name in found for name in optional) else schema
    if list(found.items()) != list(pl.Schema(schema).items()):
        raise FormatError(f"it must have exactly the columns {', '.join(schema)}: texts, and numbers of 32 bits")
    try:
        value = json.loads(text) if len(text) <= MAX_ABOUT else None
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict) or value.get("format") != form:
        raise FormatError(f"its metadata has no {ABOUT} with the format {form}")
    return value


def skipped(value: dict[str, Any]) -> dict[str, int]:
    """What the workflow left out, by reason. FormatError."""
    found = value.get("skipped", {})
    good = isinstance(found, dict) and all(
        why in WITHHELD and type(n) is int and 0 < n <= MAX_COUNT for why, n in found.items()
    )
    if not good or set(value) - {"format", "skipped"}:
        raise FormatError(f"skipped must have numbers above 0 by reason, of {', '.join(WITHHELD)}")
    return dict(found)


def length(file: Path, max_rows: int) -> int:
    """How many rows there are. FormatError where they are more than `max_rows`."""
    try:
        rows = int(pl.scan_parquet(file).select(pl.len()).collect().item())
    except pl.exceptions.PolarsError as error:
        raise FormatError("it is no Parquet file that can be read") from error
    if rows > max_rows:
        raise FormatError(f"more than {max_rows} rows, which is what this node looks at")
    return rows


def slices(file: Path, rows: int, columns: tuple[str, ...] = ()) -> Iterator[tuple[int, pl.DataFrame]]:
    """The number of each batch's first row (from 0), and the batch. FormatError where a page cannot be read."""
    whole = pl.scan_parquet(file)
    for start in range(0, rows, BATCH):
        part = whole.slice(start, BATCH)
        try:
            yield start, (part.select(columns) if columns else part).collect()
        except (pl.exceptions.PolarsError, pl.exceptions.PanicException) as error:
            raise FormatError("it is damaged: a page of it cannot be read") from error


def batches(file: Path, rows: int) -> Iterator[pl.DataFrame]:
    """Whole sites together: checked rows, some 130,000 at once. FormatError naming the first wrong row (from 1)."""
    last: pl.DataFrame | None = None
    kept: pl.DataFrame | None = None
    for start, batch in slices(file, rows):
        _look(batch, start, last)
        last = batch.tail(1)
        here = batch if kept is None else pl.concat([kept, batch])
        if start + BATCH < rows:
            first = crowds(here)[-1]  # of records that may overlap those of the next batch
            kept, here = here[first:], here[:first]
            few_alleles(kept)
            if len(kept) > MOST_TOGETHER:
                raise FormatError(f"more than {MOST_TOGETHER} rows of records that overlap each other")
        if len(here):
            few_alleles(here)
            yield here.rechunk()


def edges(rows: pl.DataFrame, place: Sequence[str]) -> np.ndarray[Any, np.dtype[Any]]:
    """Where each run of sorted rows with the same `place` begins, and where the last one ends."""
    first = rows.select(pl.any_horizontal(pl.col(n) != pl.col(n).shift(1) for n in place)).to_series()
    return np.append(np.flatnonzero(first.fill_null(value=True).to_numpy()), len(rows))


def crowds(rows: pl.DataFrame) -> np.ndarray[Any, np.dtype[Any]]:
    """Where each run of sorted rows begins that no record before overlaps."""
    end = (pl.col("pos").cast(pl.Int64) + pl.col("ref").str.len_bytes() - 1).cum_max().over("chrom").shift(1)
    begins = (pl.col("chrom") != pl.col("chrom").shift(1)) | (pl.col("pos") > end)
    return np.flatnonzero(rows.select(begins.fill_null(value=True)).to_series().to_numpy())


def few_alleles(rows: pl.DataFrame) -> None:
    """FormatError where a site of these sorted rows has more alleles than are judged together."""
    later = rows.select((pl.col(name) == pl.col(name).shift(MAX_ALLELES)) for name in PLACE)
    if later.select(pl.all_horizontal(pl.all()).any()).item():
        raise FormatError(f"more than {MAX_ALLELES} alleles at one site")


def wrong(bad: pl.Series, start: int, why: str) -> None:
    """FormatError naming the first row that is bad."""
    if bad.any():
        raise FormatError(f"row {start + 1 + (bad.arg_true()[0] or 0)}: {why}")


def _look(batch: pl.DataFrame, start: int, last: pl.DataFrame | None) -> None:
    """The rules of one row of version 1, and the order."""
    wrong(batch.select(pl.any_horizontal(pl.all().is_null())).to_series(), start, "a cell is empty")
    forms(batch, start)
    number, c = pl.Int64, pl.col
    half_alt = c("ac").cast(number) - c("het") - 2 * c("hom_alt").cast(number) - c("hemi_alt")
    people = c("hom_ref").cast(number) + c("het") + c("hom_alt")
    an = 2 * people + c("hemi_ref") + c("hemi_alt") + c("half_missing")
    found = batch.select(
        pos=~c("pos").is_between(1, MAX_POS),
        low=pl.min_horizontal(NUMBERS) < 0,
        an=c("an") != an,
        ac=(half_alt < 0) | (half_alt > c("half_missing")),
    )
    wrong(found["pos"], start, f"pos must be from 1 to {MAX_POS}")
    wrong(found["low"], start, f"numbers must be whole numbers from 0 to {MAX_COUNT}")
    why = "an must be 2*(hom_ref + het + hom_alt) + hemi_ref + hemi_alt + half_missing"
    wrong(found["an"], start, why)
    wrong(found["ac"], start, "ac does not agree with het, hom_alt, hemi_alt and half_missing")
    order(batch, start, last)


def order(batch: pl.DataFrame, start: int, last: pl.DataFrame | None) -> None:
    """FormatError where the rows are not strictly sorted; `last`: the row before them."""
    rows = batch.select(KEYS) if last is None else pl.concat([last.select(KEYS), batch.select(KEYS)])
    later = pl.lit(False)
    for name in reversed(KEYS):
        now, before = pl.col(name), pl.col(name).shift(1)
        later = (now > before) | ((now == before) & later)
    unsorted = rows.select(~later).to_series()[1:]
    wrong(unsorted, start + (last is None), "the rows are not sorted by chrom, pos, ref and alt, each once")


def forms(batch: pl.DataFrame, start: int) -> None:
    """FormatError where a name or an allele is not of its form."""
    for name, form in (("chrom", CONTIG), ("ref", REFERENCE), ("alt", ALTERNATE)):
        texts = batch[name]
        plain = texts.is_in(_LETTERS) if name != "chrom" else None
        rest = (texts if plain is None else texts.filter(~plain)).unique()
        bad = rest.filter(~rest.str.contains(rf"\A(?:{form})\z"))
        if len(bad):
            wrong(texts.is_in(bad.implode()), start, f"{name} is not of the form {form}")


class Names:
    """The file's variants that have more than one name: `twice` are the normalised keys that stand at two sites, whose
    people would be counted twice. FormatError where there are too many contigs or too many long names.
    """

    def __init__(self, file: Path, rows: int) -> None:
        self.contigs = self._contigs(file, rows)
        self.unfit = unfit(self.contigs)
        names = Counter(self.contigs.values())
        first: dict[str, str] = {}
        for chrom, name in self.contigs.items():
            first.setdefault(name, chrom)
        self.aliases = [c for c, name in self.contigs.items() if names[name] > 1 and first[name] != c]
        renamed = self._renamed(file, rows)
        self.twice = self._twice(file, rows, renamed) if len(renamed) else renamed

    def renamed(self) -> pl.Expr:
        """Whether a row's alleles are not written shortest, or its contig has another name in this file."""
        ref, alt = pl.col("ref"), pl.col("alt")
        long = (ref.str.len_bytes() > 1) & (alt.str.len_bytes() > 1) & ~alt.str.starts_with("<")
        ends = (ref.str.slice(0, 1) == alt.str.slice(0, 1)) | (ref.str.slice(-1) == alt.str.slice(-1))
        found = long & ends
        return found | pl.col("chrom").is_in(self.aliases) if self.aliases else found

    def keyed(self, batch: pl.DataFrame) -> pl.DataFrame:
        """The ledger's names beside the rows: `k_chrom`, `k_pos`, `k_ref`, `k_alt`, and whether they are others."""
        named = batch.with_columns(self._plain(), renamed=self.renamed())
        if not named["renamed"].any():
            return named
        at = named["renamed"].arg_true()
        short = [normal(*row) for row in named[at].select("k_chrom", "pos", "ref", "alt").iter_rows()]
        put = pl.DataFrame(short, schema={"a": pl.String, "b": pl.Int32, "c": pl.String, "d": pl.String}, orient="row")
        return named.with_columns(
            **{
                name: named[name].scatter(at, put[column])
                for name, column in (("k_pos", "b"), ("k_ref", "c"), ("k_alt", "d"))
            }
        )

    def _plain(self) -> list[pl.Expr]:
        """KEYED of rows that are not renamed."""
        chrom = pl.col("chrom").replace_strict(self.contigs, return_dtype=pl.String)
        return [expr.alias(name) for name, expr in zip(KEYED, (chrom, *map(pl.col, KEYS[1:])), strict=True)]

    def _contigs(self, file: Path, rows: int) -> dict[str, str]:
        found: dict[str, str] = {}
        for _, batch in slices(file, rows, ("chrom",)):
            found |= {name: contig(name) for name in batch["chrom"].unique() if name is not None}
            if len(found) > MAX_CHROMS:
                raise FormatError(f"more than {MAX_CHROMS} chromosomes")
        return found

    def _renamed(self, file: Path, rows: int) -> pl.DataFrame:
        parts = [self.keyed(pl.DataFrame(schema={name: SCHEMA[name] for name in KEYS}))]
        total = 0
        for _, batch in slices(file, rows, KEYS):
            part = batch.filter(self.renamed())
            total += len(part)
            if total > MAX_RENAMED:
                raise FormatError(f"more than {MAX_RENAMED} alleles are not written in their shortest form")
            parts += [self.keyed(part)] if len(part) else []
        return pl.concat(parts)

    def _twice(self, file: Path, rows: int, renamed: pl.DataFrame) -> pl.DataFrame:
        """Keys of renamed rows that another row has as well."""
        mine = renamed.select(KEYED)
        found = [mine.filter(mine.is_duplicated())]
        for _, batch in slices(file, rows, KEYS):
            named = batch.filter(~self.renamed()).select(self._plain())
            found.append(named.join(mine, on=KEYED, how="semi"))
        return pl.concat(found).unique()
