"""The node's half of `allele-counts` 2: checks a sorted Parquet file batch by batch, and writes what leaves and what
the ledger remembers as Parquet.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from gdi.releases.allele_counts import parquet
from gdi.releases.allele_counts.answers import CODES, SMALL
from gdi.releases.allele_counts.column_remarks import ColumnRemarks
from gdi.releases.allele_counts.judgement import CELL, NAMES, TOPIC, Answers, judged, places_of, topics_of
from gdi.releases.allele_counts.leaving import COLUMNS, NAMED, UNBOUNDED, unlisted
from gdi.releases.allele_counts.parquet import KEYED
from gdi.releases.allele_counts.table import CLASSES
from gdi.releases.columns import BATCH, ColumnCheck, ColumnVerdict, PastColumns, write_batches
from gdi.releases.disclosure.past import Past
from gdi.releases.disclosure.variants import UNFIT
from gdi.releases.kind import Rules, Scope

RELEASED = "gdi-allele-counts-released/2"
CELLS = "gdi-allele-counts-cells/1"
REASONS = [reason for reason, _ in CODES]
RARE = [rare for _, rare in CODES]
CELL_SCHEMA = {
    **{name: pl.Int32 if name == "k_pos" else pl.String for name in KEYED},
    **dict.fromkeys(CELL, pl.Int64),
}
SCHEMA = {
    **{name: parquet.SCHEMA[name] for name in parquet.KEYS},
    **dict.fromkeys(COLUMNS[4:8], pl.Int64),
    "reason": pl.String,
    "rare": pl.String,
}
_KEPT = {
    **{name: parquet.SCHEMA[name] for name in parquet.KEYS},
    **CELL_SCHEMA,
    "site": pl.UInt32,
    "listed": pl.Boolean,
    "keyed": pl.Boolean,
    "new": pl.Boolean,
}
_MOST_CONTIGS = 20  # of a batch, that the past is filtered by one after the other


class AlleleCountsColumns(ColumnCheck):
    """One release; `judge` comes first."""

    def __init__(self) -> None:
        self._chosen: pl.Series | None = None  # numbers of the sites with new numbers that leave; None: all
        self._complete, self._classes = True, False

    def judge(self, file: Path, folder: Path, rules: Rules, past: PastColumns, afford: int | None) -> ColumnVerdict:
        left_out = parquet.skipped(parquet.about(file, parquet.SCHEMA, parquet.FORMAT))
        rows = parquet.length(file, rules.max_parquet_rows)
        names = parquet.Names(file, rows)
        verdict, remarks = ColumnVerdict(withheld=Counter(left_out)), ColumnRemarks(rules)
        verdict.units = len(left_out)
        self._classes = rules.classes
        people: set[int] = set()
        order: list[tuple[bytes, int, int]] = []
        free = 0

        def answered() -> Iterator[pl.DataFrame]:
            nonlocal free, order
            sites = 0
            for batch in parquet.batches(file, rows):
                keyed = names.keyed(batch)
                table = Past() if past.cells is None else past.cells(_keys(keyed))
                answers = judged(keyed, _cells(keyed, past), table, names, rules, past)
                verdict.withheld.update(answers.withheld())
                _people(keyed, answers, people)
                frame = _frame(keyed, answers, rules, sites)
                remarks.add(frame)
                found = _sites(frame.lazy().filter("listed")).collect().lazy()
                counts = found.select(pl.len(), free=(pl.col("new") == 0).sum(), new=pl.col("new").sum()).collect()
                free += counts["free"][0]
                verdict.released += counts["len"][0]
                verdict.statistics += counts["new"][0]
                if afford is None:
                    _count_shown(found, verdict.shown)
                else:
                    order = _first_in_order([*order, *_places(frame)], afford)
                sites += int(answers.site[-1]) + 1
                yield frame
            verdict.units += sites

        write_batches(answered, _KEPT, folder / "judged", "{}", compression=1)
        if afford is not None:
            self._choose(verdict, order, free, afford)
        fewest = min(people, default=0)
        self._complete = NAMED.isdisjoint(left_out) and not verdict.over_budget
        bounded = UNBOUNDED.isdisjoint(left_out)
        verdict.scope = Scope(max(people, default=0), self._complete, fewest, bounded=bounded)
        verdict.remarks = remarks.sentences()
        if afford is not None:
            for part in self._parts(folder, ("code", "ac_min", "ac_max")):
                _count_shown(_sites(part.lazy().filter(self._leaves())), verdict.shown)
        return verdict

    def _choose(self, verdict: ColumnVerdict, order: list[tuple[bytes, int, int]], free: int, afford: int) -> None:
        """As `membership.chosen`: the first in the public order whose numbers together are at most `afford`."""
        left, chosen = afford, []
        for _, number, new in order:
            left -= new
            if left < 0:
                left += new
                break
            chosen.append(number)
        self._chosen = pl.Series("site", chosen, dtype=pl.UInt32)
        verdict.over_budget = verdict.released - free - len(chosen)
        verdict.released, verdict.statistics = free + len(chosen), afford - left

    def _leaves(self) -> pl.Expr:
        if self._chosen is None:
            return pl.col("listed")
        fresh = (pl.col("listed") & pl.col("new")).any().over("site")
        return pl.col("listed") & (~fresh | pl.col("site").is_in(self._chosen.implode()))

    def _parts(self, folder: Path, columns: Iterable[str]) -> Iterator[pl.DataFrame]:
        """What was judged, whole sites together; these columns of it, and those of `_leaves`."""
        names = tuple(dict.fromkeys([*columns, "site", "listed", "new"]))
        rows = int(pl.scan_parquet(folder / "judged").select(pl.len()).collect().item())
        kept: pl.DataFrame | None = None
        for start, batch in parquet.slices(folder / "judged", rows, names):
            here = batch if kept is None else pl.concat([kept, batch])
            if start + BATCH < rows:
                last = here["site"] == here["site"][-1]
                kept, here = here.filter(last), here.filter(~last)
            yield here

    def write(self, folder: Path, out: Path, verdict: ColumnVerdict, public: Mapping[str, int], rules: Rules) -> None:
        about = {"format": RELEASED, "unlisted": unlisted(verdict.scope, rules)}
        about["withheld"] = {why: n for why, n in sorted(public.items()) if why == SMALL}
        schema = SCHEMA | (dict.fromkeys(CLASSES, pl.Int64) if self._classes else {})
        texts = [
            pl.col("code").replace_strict(dict(enumerate(texts)), return_dtype=pl.String).alias(name)
            for name, texts in (("reason", REASONS), ("rare", RARE))
        ]

        def leaving() -> Iterator[pl.DataFrame]:
            for part in self._parts(folder, [name for name in schema if name in _KEPT] + ["code"]):
                yield part.filter(self._leaves()).with_columns(texts).select(list(schema))

        write_batches(leaving, schema, out, json.dumps(about, separators=(",", ":")))

    def write_cells(self, folder: Path, out: Path) -> None:
        def cells() -> Iterator[pl.DataFrame]:
            for part in self._parts(folder, [*CELL_SCHEMA, "keyed"]):
                yield part.filter(pl.col("keyed") & (~pl.col("listed") | self._leaves())).select(list(CELL_SCHEMA))

        write_batches(cells, CELL_SCHEMA, out, json.dumps({"format": CELLS}))

    def cells_of(self, file: Path, sites: Sequence[str]) -> tuple[dict[str, tuple[int, ...]], dict[str, list[str]]]:
        wanted = places_of(sites)
        found = _near(pl.scan_parquet(file), wanted).collect().join(wanted, on=TOPIC, how="semi")
        cells: dict[str, tuple[int, ...]] = {}
        topics: dict[str, list[str]] = {}
        keys = found.select(_key()).to_series()
        for key, about, numbers in zip(keys, topics_of(found), found.select(CELL).iter_rows(), strict=True):
            cells[key] = tuple(n for n in numbers if n is not None)
            topics.setdefault(about, []).append(key)
        return cells, topics

    def rows(self, file: Path, start: int, count: int) -> list[tuple[str | int | float, ...]]:
        return pl.scan_parquet(file).slice(start, count).select(COLUMNS).collect().rows()


def _sites(rows: pl.LazyFrame) -> pl.LazyFrame:
    """By site, of the rows that are listed: numbers that had not left, whether one is exact, the first's reason."""
    exact = (pl.col("ac_min") == pl.col("ac_max")).any()
    return rows.group_by("site").agg(new=pl.col("new").sum(), exact=exact, code=pl.col("code").first())


def _count_shown(sites: pl.LazyFrame, into: Counter[str]) -> None:
    """As `AlleleCountsNode.shown`."""
    for code, count in sites.filter(~pl.col("exact")).group_by("code").agg(pl.len()).collect().iter_rows():
        into[REASONS[code] or SMALL] += count


def _places(frame: pl.DataFrame) -> Iterator[tuple[bytes, int, int]]:
    """The place in the public order, number and count of new numbers of each site that has some."""
    fresh = frame.filter(pl.col("listed") & pl.col("new")).group_by("site").agg(pl.len(), key=_key().min())
    for number, new, key in fresh.iter_rows():
        yield hashlib.sha256(key.encode()).digest(), number, new


def _first_in_order(places: list[tuple[bytes, int, int]], afford: int) -> list[tuple[bytes, int, int]]:
    """Each has a number at least: no more than these can leave."""
    return sorted(places)[: afford + 1]


def _key() -> pl.Expr:
    return pl.concat_str(KEYED, separator=":").alias("key")


def _near(cells: pl.LazyFrame, batch: pl.DataFrame) -> pl.LazyFrame:
    """The cells that may be of the batch's keys: groups of rows elsewhere are not read."""
    spans = batch.group_by("k_chrom").agg(low=pl.col("k_pos").min(), high=pl.col("k_pos").max())
    if len(spans) > _MOST_CONTIGS:
        return cells.filter(pl.col("k_chrom").is_in(spans["k_chrom"].implode()))
    near = [
        (pl.col("k_chrom") == chrom) & pl.col("k_pos").is_between(low, high) for chrom, low, high in spans.iter_rows()
    ]
    return cells.filter(pl.any_horizontal(near)) if near else cells.head(0)


def _cells(batch: pl.DataFrame, past: PastColumns) -> pl.DataFrame:
    """What left before at the batch's positions: `number` of the cohort, KEYED, CELL; the first that left first."""
    schema = {"number": pl.Int64, **CELL_SCHEMA}
    found = []
    for number, files in past.files.items():
        for file in files:
            here = _near(pl.scan_parquet(file), batch).collect().join(batch, on=TOPIC, how="semi")
            found.append(here.with_columns(number=pl.lit(number, dtype=pl.Int64)).select(list(schema)))
    return pl.concat(found) if found else pl.DataFrame(schema=schema)


def _keys(batch: pl.DataFrame) -> list[str]:
    """A key of each position of the batch: what is asked of the ledger's table is asked by topic."""
    return [f"{chrom}:{pos}:A:C" for chrom, pos in batch.select(TOPIC).unique().iter_rows()]


def _people(batch: pl.DataFrame, answers: Answers, into: set[int]) -> None:
    """How many people the sites count, the least and the most."""
    starts = np.flatnonzero(np.diff(answers.site, prepend=-1))
    usable = np.ones(len(starts), dtype=bool)
    usable[[place for place, why in answers.why.items() if why not in UNFIT]] = False
    classes = batch.select(CLASSES)
    if len(starts) < len(batch) or not usable.all():
        classes = classes[starts[usable]]
    counts = classes.select(pl.sum_horizontal(pl.col(CLASSES).cast(pl.Int64))).to_series()
    if len(counts):
        found = into | {int(n) for n in (counts.min(), counts.max()) if isinstance(n, int)}
        into.clear()
        into.update({min(found), max(found)})


def _frame(batch: pl.DataFrame, answers: Answers, rules: Rules, first: int) -> pl.DataFrame:
    """The batch's answers as they are kept; `first`: how many sites came before."""
    listed = answers.listed(rules)
    columns = {name: pl.Series(name, answers.numbers[name], dtype=pl.Int64) for name in NAMES}
    stay = (answers.classes == -1).all()
    return batch.with_columns(
        **columns,
        **{name: _number(None if stay else answers.classes[:, n]) for n, name in enumerate(CLASSES)},
        copies=pl.Series(np.where(answers.exact, 0, answers.numbers["copies"])).set(pl.Series(answers.exact), None),
        site=pl.Series(answers.site + first, dtype=pl.UInt32),
        listed=pl.Series(listed),
        keyed=pl.Series(answers.keyed),
        new=pl.Series(listed & answers.keyed & ~answers.before),
    ).select(list(_KEPT))


def _number(values: np.ndarray[Any, np.dtype[Any]] | None) -> pl.Series | pl.Expr:
    """A column of numbers; -1, and None for all, are no number."""
    if values is None:
        return pl.lit(None, dtype=pl.Int64)
    return pl.Series(values, dtype=pl.Int64).replace(-1, None)
