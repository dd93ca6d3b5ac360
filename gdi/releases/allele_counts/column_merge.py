"""Adds up the allele counts of several nodes (`gdi-allele-counts-released/2`, or 1) window by window of positions: the
rules of `merge`, in columns. Sites where a node contradicts itself are added up by `merge` itself.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np
import polars as pl

from gdi.releases.allele_counts import merge, parquet
from gdi.releases.allele_counts.column_check import RELEASED, SCHEMA
from gdi.releases.allele_counts.table import CLASSES
from gdi.releases.answer import MISSING_NODES
from gdi.releases.columns import BATCH, ColumnMerge, is_parquet_file, write_batches
from gdi.releases.kind import BadReleaseError, FormatError

Array = np.ndarray[Any, np.dtype[Any]]
LEAST_STEP = 4096  # rows of a node that are read at once, of many nodes
KEYS = ("pos", "ref", "alt")  # within a chromosome
NUMBERS = ("ac_min", "ac_max", "an_min", "an_max")
REASONS = ("", "missing", "small", "missing,small")  # by the sum of 1 (missing) and 2 (small)
_BITS = {"": 0, "missing": 1, "small": 2}
_KIND: dict[str, Any] = {"CHROM": pl.String, "REF": pl.String, "ALT": pl.String, "REASON": pl.String}
_KIND |= {"POS": pl.Int32, "AF": pl.Float64, "NODES": pl.Int32}


class Window(NamedTuple):
    """What the nodes list of some positions of a chromosome."""

    chrom: str
    rows: Mapping[str, pl.DataFrame]


class AlleleCountsMerge(ColumnMerge):
    schema: ClassVar = {name: _KIND.get(name, pl.Int64) for name in merge.COLUMNS}

    def merge(
        self, releases: Mapping[str, Path], nodes: Sequence[str], out: Path, missing: Sequence[str] = ()
    ) -> tuple[int, int]:
        schema = {**self.schema, MISSING_NODES: pl.String} if missing else self.schema
        wanted = sorted(set(nodes))
        step = max(LEAST_STEP, 2 * BATCH // len(wanted))
        found = {node: NodeFile(node, _as_parquet(node, releases[node], out), step) for node in wanted}
        size = [0, 0]

        def answers() -> Iterator[pl.DataFrame]:
            for window in _windows(found):
                frame = _added(window, found)
                size[0] += len(frame)
                size[1] += int(frame["withheld"].sum())
                yield frame.with_columns(pl.lit(",".join(missing)).alias(MISSING_NODES)).select(list(schema))

        try:
            write_batches(answers, schema, out, json.dumps({"format": "gdi-allele-counts-answer/1"}))
        finally:
            for node in wanted:
                _beside(out, node).unlink(missing_ok=True)
        return size[0], size[1]


@dataclass
class NodeFile:
    """A node's release: `spans`, by chromosome, the first row and the row after the last. BadReleaseError naming the
    node and the place.
    """

    node: str
    file: Path
    step: int

    def __post_init__(self) -> None:
        try:
            about = parquet.about(self.file, SCHEMA, RELEASED, dict.fromkeys(CLASSES, pl.Int64))
            self.unlisted = merge.Unlisted.model_validate(about.get("unlisted"))
            self.spans = self._spans()
        except (FormatError, pl.exceptions.PolarsError, OSError, ValueError) as error:
            raise self._bad(error) from None

    def _bad(self, error: Exception) -> BadReleaseError:
        return BadReleaseError(f"The allele counts of {self.node} are not of their format: {str(error)[:300]}")

    def _spans(self) -> dict[str, tuple[int, int]]:
        spans: dict[str, tuple[int, int]] = {}
        rows = parquet.length(self.file, 2**40)
        last: pl.DataFrame | None = None
        for start, batch in parquet.slices(self.file, rows, tuple(parquet.KEYS)):
            parquet.wrong(batch.select(pl.any_horizontal(pl.all().is_null())).to_series(), start, "a cell is empty")
            parquet.order(batch, start, last)
            parquet.forms(batch, start)
            last = batch.tail(1)
            first = (
                batch.with_row_index("row").group_by("chrom", maintain_order=True).agg(pl.col("row").min(), pl.len())
            )
            for chrom, row, count in first.iter_rows():
                at = start + row
                spans[chrom] = (spans.get(chrom, (at, at))[0], at + count)
            if len(spans) > 5000:
                raise FormatError("more than 5000 chromosomes")
        return spans

    def load(self, start: int, end: int) -> pl.DataFrame:
        """Rows `start` to `end`, checked."""
        c = pl.col
        try:
            part = pl.scan_parquet(self.file).slice(start, end - start)
            batch = part.select(*parquet.KEYS, *NUMBERS, "reason").collect()
            parquet.wrong(batch.select(pl.any_horizontal(pl.all().is_null())).to_series(), start, "a cell is empty")
            bad = (c("ac_min") > c("ac_max")) | (c("an_min") > c("an_max")) | (c("ac_min") > c("an_max"))
            parquet.wrong(batch.select(bad).to_series(), start, "an interval ends before it begins")
            range_ = (pl.min_horizontal(NUMBERS) < 0) | (pl.max_horizontal(NUMBERS) >= 2**53)
            parquet.wrong(batch.select(range_).to_series(), start, "a number is below 0 or too large")
            parquet.wrong(~batch["reason"].is_in(list(_BITS)), start, "its reason is none")
        except (FormatError, pl.exceptions.PolarsError) as error:
            raise self._bad(error) from None
        return batch


def _beside(out: Path, node: str) -> Path:
    return out.with_name(f"{out.name}.{node}.tmp")


def _as_parquet(node: str, file: Path, out: Path) -> Path:
    """A release of version 1 as one of version 2, beside `out`."""
    if is_parquet_file(file):
        return file
    found = merge.parse(node, file.read_bytes())
    rows = [one.model_dump() | {"rare": ""} for one in found.sites]
    frame = pl.DataFrame(rows, schema={name: SCHEMA[name] for name in SCHEMA}).sort(parquet.KEYS)
    twice = frame.select(pl.struct(parquet.KEYS).is_duplicated()).to_series()
    if twice.any():
        raise BadReleaseError(f"The allele counts of {node} list an allele twice.")
    about = json.dumps({"format": RELEASED, "unlisted": found.unlisted.model_dump()})
    write_batches(lambda: iter([frame]), SCHEMA, _beside(out, node), about)
    return _beside(out, node)


def _windows(files: Mapping[str, NodeFile]) -> Iterator[Window]:
    """All rows, chromosome by chromosome, cut where every node has all that it lists."""
    chroms = sorted({chrom for file in files.values() for chrom in file.spans}, key=merge.natural)
    for chrom in chroms:
        at = {node: file.spans[chrom] for node, file in files.items() if chrom in file.spans}
        buffers: dict[str, pl.DataFrame] = {}
        while at or buffers:
            for node in list(at):
                if node not in buffers or not len(buffers[node]):
                    _more(files[node], at, buffers)
            last = {node: int(buffers[node]["pos"][-1]) for node in at}
            cut = min(last.values(), default=None)
            if cut is None:
                yield Window(chrom, buffers)
                break
            rows = {node: frame.filter(pl.col("pos") < cut) for node, frame in buffers.items()}
            if any(len(frame) for frame in rows.values()):
                yield Window(chrom, {node: frame for node, frame in rows.items() if len(frame)})
                buffers = {node: frame.filter(pl.col("pos") >= cut) for node, frame in buffers.items()}
            for node in [node for node, pos in last.items() if pos == cut]:
                _more(files[node], at, buffers)


def _more(file: NodeFile, at: dict[str, tuple[int, int]], buffers: dict[str, pl.DataFrame]) -> None:
    start, end = at.pop(file.node)
    stop = min(end, start + file.step)
    new = file.load(start, stop)
    buffers[file.node] = pl.concat([buffers[file.node], new]) if file.node in buffers else new
    if stop < end:
        at[file.node] = stop, end


def _added(window: Window, files: Mapping[str, NodeFile]) -> pl.DataFrame:
    """The answer's rows of a window, sorted, and whether each is `withheld`."""
    names = pl.concat([frame.select(KEYS) for frame in window.rows.values()]).unique().sort(KEYS)
    edges = parquet.edges(names, KEYS[:2])
    starts = edges[:-1]
    site = np.repeat(np.arange(len(starts)), np.diff(edges))
    sums = {name: np.zeros(len(names), dtype=np.int64) for name in (*NUMBERS, "nodes", "reasons")}
    odd = np.zeros(len(starts), dtype=bool)
    for node, file in files.items():
        rows = window.rows.get(node)
        part = _of_node(names, rows, starts, site, file.unlisted, odd)
        for name in NUMBERS:
            sums[name] += part[name]
        sums["nodes"] += (part["reasons"] == 0) & (part["ac_min"] == part["ac_max"])
        sums["reasons"] |= part["reasons"]
    if odd.any():
        _contradicted(window, files, names, np.flatnonzero(odd), edges, sums)
    ac, an = sums["ac_min"] == sums["ac_max"], sums["an_min"] == sums["an_max"]
    known = ac & (sums["reasons"] == 0)
    missing = (sums["reasons"] == 1) & (sums["nodes"] == 0)
    c = pl.col
    frame = names.rename({name: name.upper() for name in KEYS}).with_columns(
        CHROM=pl.lit(window.chrom),
        NODES=pl.Series(sums["nodes"], dtype=pl.Int32),
        REASON=pl.Series(sums["reasons"]).replace_strict(dict(enumerate(REASONS)), return_dtype=pl.String),
        known=pl.Series(known),
        whole=pl.Series(an),
        withheld=pl.Series(~(known & an) & ~missing),
        **{name.upper(): pl.Series(sums[name]) for name in NUMBERS},
    )
    frame = frame.with_columns(AC=pl.when("known").then("AC_MIN"), AN=pl.when("whole").then("AN_MIN"))
    return frame.with_columns(AF=pl.when(c("AN") > 0).then(c("AC") / c("AN")))


def _of_node(
    names: pl.DataFrame, rows: pl.DataFrame | None, starts: Array, site: Array, unlisted: merge.Unlisted, odd: Array
) -> dict[str, Array]:
    """What one node adds to each row; `odd` gets the sites where its numbers of calls differ."""
    bits = _BITS[unlisted.reason]
    if rows is None:
        most = min(unlisted.ac_max, unlisted.an_max)
        ends = dict(zip((*NUMBERS, "reasons"), (0, most, 0, unlisted.an_max, bits), strict=True))
        return {name: np.full(len(names), end, dtype=np.int64) for name, end in ends.items()}
    mine = names.join(rows, on=KEYS, how="left", maintain_order="left")
    listed = mine["ac_min"].is_not_null().to_numpy()
    found = {name: mine[name].fill_null(0).to_numpy() for name in NUMBERS}
    here = np.logical_or.reduceat(listed, starts)
    calls = []
    for name in NUMBERS[2:]:
        highest = np.maximum.reduceat(np.where(listed, found[name], -1), starts)
        lowest = np.minimum.reduceat(np.where(listed, found[name], 2**62), starts)
        odd |= here & (highest != lowest)
        calls.append(highest)
    low, high = np.where(here, calls[0], 0)[site], np.where(here, calls[1], unlisted.an_max)[site]
    reason = mine["reason"].replace_strict(_BITS, default=bits, return_dtype=pl.Int64).to_numpy()
    return {
        "ac_min": np.where(listed, found["ac_min"], 0),
        "ac_max": np.where(listed, found["ac_max"], np.minimum(unlisted.ac_max, high)),
        "an_min": low,
        "an_max": high,
        "reasons": np.where(listed, reason, bits),
    }


def _contradicted(
    window: Window,
    files: Mapping[str, NodeFile],
    names: pl.DataFrame,
    sites: Array,
    edges: Array,
    sums: dict[str, Array],
) -> None:
    for place in sites.tolist():
        first, end = int(edges[place]), int(edges[place + 1])
        pos, ref = names["pos"][first], names["ref"][first]
        releases = {}
        for node, file in files.items():
            frame = window.rows.get(node)
            rows = [] if frame is None else frame.filter((pl.col("pos") == pos) & (pl.col("ref") == ref)).to_dicts()
            found = [merge.ReleasedRow.model_validate(row) for row in rows]
            releases[node] = merge.ReleasedCounts(
                format="gdi-allele-counts-released/1", unlisted=file.unlisted, sites=found
            )
        answers = {one.alt: one for one in merge.merge(releases, list(files))}
        for row, alt in enumerate(names["alt"][first:end], first):
            one = answers[alt]
            numbers = (*one.ac, *one.an, len(one.nodes), sum(_BITS[why] for why in one.reasons))
            for name, number in zip(sums, numbers, strict=True):
                sums[name][row] = number
