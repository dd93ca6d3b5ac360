"""Puts the nodes' moments together (release format `gdi-moments-released/1`): means and variances of groups that do not
overlap follow exactly (Chan, Golub, LeVeque 1983); medians and quartiles from the bins of the histogram.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, NamedTuple, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from gdi.releases.cross_table.table import COLUMN, MAX_CELLS, MAX_LEVEL
from gdi.releases.kind import BadReleaseError
from gdi.releases.moments.table import MAX_GROUP, MAX_VARIABLES

COLUMNS = (
    *("VARIABLE", "COLUMN_1", "LEVEL_1", "COLUMN_2", "LEVEL_2", "NODES", "N", "MEAN", "SD", "VARIANCE"),
    *("Q1", "MEDIAN", "Q3", "REASON"),
)
QUANTILES = (0.25, 0.5, 0.75)
BIN = re.compile(r"(-?[0-9.e+-]+)\.\.(-?[0-9.e+-]+)")
Level = Annotated[str, Field(min_length=1, max_length=MAX_LEVEL, pattern=r"^[^\x00-\x1f\x7f]+$")]
Count = Annotated[int, Field(ge=0, lt=2**53, strict=True)]
Name = Annotated[str, Field(pattern=f"^{COLUMN}$")]
Group = tuple[str, ...]


class ReleasedGroup(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)
    variable: Name
    group: tuple[Level, ...] = Field(max_length=MAX_GROUP)
    n: int = Field(ge=1, lt=2**53, strict=True)
    mean: float = Field(allow_inf_nan=False)
    variance: float = Field(ge=0, allow_inf_nan=False)


class ReleasedMoments(BaseModel):
    """A node's release. `cells`: a level of each column, or null, then the fewest and the most people."""

    model_config = ConfigDict(extra="ignore")
    format: str = Field(pattern=r"^gdi-moments-released/1$")
    group: tuple[Name, ...] = Field(max_length=MAX_GROUP)
    histogram: Name | None
    levels: tuple[tuple[Level, ...], ...] = Field(max_length=MAX_GROUP + 1)
    cells: tuple[tuple[Level | Count | None, ...], ...] = Field(max_length=8 * MAX_CELLS)
    moments: tuple[ReleasedGroup, ...] = Field(max_length=MAX_CELLS)

    @model_validator(mode="after")
    def _whole(self) -> Self:
        columns = len(self.group) + (self.histogram is not None)
        if self.moments and len(self.levels) != columns:
            raise ValueError("columns and levels do not agree")
        for cell in self.cells:
            *levels, low, high = cell
            good = len(levels) == columns and type(low) is int and type(high) is int and low <= high
            if not good or any(type(level) is int for level in levels):
                raise ValueError("a cell is no list of levels and two numbers")
        places = [(row.variable, row.group) for row in self.moments]
        if len(set(places)) != len(places) or any(len(row.group) != len(self.group) for row in self.moments):
            raise ValueError("a group is there twice, or not of the columns")
        if len({row.variable for row in self.moments}) > MAX_VARIABLES:
            raise ValueError("too many variables")
        return self

    def bins(self, group: Group) -> dict[str, tuple[int, int]]:
        """By bin, the fewest and the most people of a group."""
        if self.histogram is None:
            return {}
        return {str(c[-3]): (int(c[-2] or 0), int(c[-1] or 0)) for c in self.cells if c[:-3] == group and c[-3]}


class PooledMoments(NamedTuple):
    n: int
    mean: float
    variance: float


class Bin(NamedTuple):
    """Of a histogram: its edges, and the fewest and the most people in it."""

    low: float
    high: float
    fewest: int
    most: int


@dataclass(frozen=True)
class MergedGroup:
    """A row of the answer: over the `nodes` that told it. `reason`: `small` where others did not."""

    variable: str
    levels: tuple[tuple[str, str], ...]
    nodes: int
    pooled: PooledMoments
    reason: str = ""
    bins: tuple[Bin, ...] = ()
    quantiles: tuple[float | None, ...] = field(default=(None, None, None))


def parse(node: str, data: bytes) -> ReleasedMoments:
    """A node's release. BadReleaseError naming node and place."""
    try:
        return ReleasedMoments.model_validate_json(data)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(p) for p in first["loc"])[:80] or "document"
        raise BadReleaseError(f"The moments of {node} are not of their format: {place}: {first['msg']}") from None


def pool(parts: Sequence[PooledMoments]) -> PooledMoments:
    """Of disjoint groups. With n of 3 digits' means, as exact as they are."""
    n = sum(part.n for part in parts)
    mean = sum(part.n * part.mean for part in parts) / n
    squares = sum((part.n - 1) * part.variance + part.n * (part.mean - mean) ** 2 for part in parts)
    return PooledMoments(n, mean, squares / (n - 1) if n > 1 else 0.0)


def merge(releases: Mapping[str, ReleasedMoments], nodes: Iterable[str]) -> list[MergedGroup]:
    """A row for each variable and group that a node told, variables by name. BadReleaseError where the nodes grouped by
    different columns.
    """
    wanted = sorted(set(nodes))
    full = [releases[node] for node in wanted if releases[node].moments]
    if len({(one.group, one.histogram) for one in full}) > 1:
        raise BadReleaseError(f"The moments of {', '.join(wanted)} are by different columns.")
    parts: dict[tuple[str, Group], list[tuple[ReleasedMoments, ReleasedGroup]]] = {}
    for one in full:
        for row in one.moments:
            parts.setdefault((row.variable, row.group), []).append((one, row))
    order = _order(full)
    places = sorted(parts, key=lambda place: (place[0], [order.get(name, 0) for name in enumerate(place[1])], place[1]))
    return [_merged(place, parts[place], len(wanted)) for place in places]


def _order(full: Sequence[ReleasedMoments]) -> dict[tuple[int, str], int]:
    found: dict[tuple[int, str], int] = {}
    for one in full:
        for column, levels in enumerate(one.levels):
            for level in levels:
                found.setdefault((column, level), len(found))
    return found


def _merged(place: tuple[str, Group], parts: list[tuple[ReleasedMoments, ReleasedGroup]], nodes: int) -> MergedGroup:
    variable, group = place
    first = parts[0][0]
    pooled = pool([PooledMoments(row.n, row.mean, row.variance) for _, row in parts])
    levels = tuple(zip(first.group, group, strict=True))
    bins = _bins([one.bins(group) for one, _ in parts]) if variable == first.histogram else ()
    quantiles = tuple(quantile(bins, part) for part in QUANTILES)
    return MergedGroup(variable, levels, len(parts), pooled, "" if len(parts) == nodes else "small", bins, quantiles)


def _bins(of_nodes: Sequence[Mapping[str, tuple[int, int]]]) -> tuple[Bin, ...]:
    found: dict[tuple[float, float], list[int]] = {}
    for of in of_nodes:
        for level, (fewest, most) in of.items():
            if edges := BIN.fullmatch(level):
                try:
                    ends = found.setdefault((float(edges[1]), float(edges[2])), [0, 0])
                except ValueError:
                    continue
                ends[0], ends[1] = ends[0] + fewest, ends[1] + most
    return tuple(Bin(*edges, *ends) for edges, ends in sorted(found.items()))


def quantile(bins: Sequence[Bin], part: float) -> float | None:
    """The value below which `part` of the people lie, evenly spread within a bin whose people are taken for the middle
    of the fewest and the most. None where there are no bins, or where they leave open in which bin it lies.
    """
    fewest, most = sum(one.fewest for one in bins), sum(one.most for one in bins)
    if not fewest:
        return None
    counts = [(one.fewest + one.most) / 2 for one in bins]
    place, total = _place(counts, part)
    low = _place([one.most if i <= place else one.fewest for i, one in enumerate(bins)], part)[0]
    high = _place([one.fewest if i <= place else one.most for i, one in enumerate(bins)], part)[0]
    if low != place or high != place or not counts[place]:
        return None
    before = sum(counts[:place])
    one = bins[place]
    found = one.low + (one.high - one.low) * (part * total - before) / counts[place]
    return found if math.isfinite(found) and most else None


def _place(counts: Sequence[float], part: float) -> tuple[int, float]:
    """In which bin the quantile lies, and of how many people."""
    total, before = sum(counts), 0.0
    for i, count in enumerate(counts):
        before += count
        if before >= part * total and count:
            return i, total
    return len(counts) - 1, total


def table_line(one: MergedGroup) -> str:
    """A row of the answer."""
    pairs = [text for pair in one.levels for text in pair]
    pairs += [""] * (2 * MAX_GROUP - len(pairs))
    n, mean, variance = one.pooled
    numbers = [f"{mean:.6g}", f"{math.sqrt(variance):.6g}", f"{variance:.6g}"]
    quantiles = ["" if value is None else f"{value:.4g}" for value in one.quantiles]
    return "\t".join(map(str, [one.variable, *pairs, one.nodes, n, *numbers, *quantiles, one.reason]))
