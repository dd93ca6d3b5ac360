"""Reads `gdi-moments/1`: people by group, and for each group and variable n, mean, variance and what the node needs to
judge them by. FormatError names the place and the field, never a value.
"""

from __future__ import annotations

import io
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import IO, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from gdi.releases.cross_table import table as cross_table
from gdi.releases.cross_table.table import COLUMN, MAX_CELLS, MAX_COUNT, MAX_LEVEL, CrossTable, Key
from gdi.releases.disclosure.sums import MAX_LARGEST, expect_shares
from gdi.releases.kind import FormatError, Rules

FORMAT = "gdi-moments/1"  # what a workflow writes
RELEASED = "gdi-moments-released/1"  # what leaves the node
MAX_GROUP, MAX_VARIABLES = 2, 20
LEAST_VARIANTS, LARGEST_PART = 100, 0.1  # of a score
Column = Field(pattern=rf"^{COLUMN}$")
Share = Field(ge=0, le=1 + 1e-9, allow_inf_nan=False)


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ScoreFacts(_Strict):
    """What a score is made of: how many variants the people's files have, and the largest part that one of them has in
    the sum of their variances.
    """

    variants: int = Field(ge=0, le=MAX_COUNT, strict=True)
    largest: float = Share


class MomentsRow(_Strict):
    """A variable in a group, of the people who have a value. `variance` with n - 1. `sums`, `squares`: which part of
    the sum of |x|, and of that of (x - mean)², the 1, 2, … people have who have most of it, at most 50 of them.
    `apart`: people whose value is not the commonest one.
    """

    variable: str = Column
    group: tuple[str, ...] = Field(max_length=MAX_GROUP)
    n: int = Field(ge=0, le=MAX_COUNT, strict=True)
    mean: float = Field(allow_inf_nan=False)
    variance: float = Field(ge=0, allow_inf_nan=False)
    sums: tuple[float, ...] = Field(max_length=MAX_LARGEST)
    squares: tuple[float, ...] = Field(max_length=MAX_LARGEST)
    apart: int = Field(ge=0, le=MAX_COUNT, strict=True)

    @model_validator(mode="after")
    def _shares(self) -> Self:
        for shares in (self.sums, self.squares):
            expect_shares(shares, self.n)
        if self.apart > self.n:
            raise ValueError("apart is more than n")
        return self


class MomentsFile(_Strict):
    """`people`: a level of each column of `group`, and of `histogram` where that is given, then how many people."""

    format: Literal["gdi-moments/1"]
    group: tuple[str, ...] = Field(max_length=MAX_GROUP)
    histogram: str | None = None
    people: tuple[tuple[str | int, ...], ...] = Field(max_length=MAX_CELLS)
    scores: dict[str, ScoreFacts] = Field(default_factory=dict, max_length=MAX_VARIABLES)
    moments: tuple[MomentsRow, ...] = Field(min_length=1, max_length=MAX_CELLS)


@dataclass(frozen=True)
class GroupedMoments:
    """`table`: people by group, and by the histogram's bins; `rows`: of each variable and group."""

    table: CrossTable
    group: tuple[str, ...]
    histogram: str | None
    rows: tuple[MomentsRow, ...]

    @property
    def variables(self) -> list[str]:
        return list(dict.fromkeys(row.variable for row in self.rows))

    def place(self, levels: Sequence[str]) -> Key:
        """The cell of the table that counts a group's people."""
        found = [self.table.levels[i].index(level) for i, level in enumerate(levels)]
        return (*found, *([None] if self.histogram else []))


def read(file: IO[bytes], rules: Rules) -> list[GroupedMoments]:
    """The one unit of a file."""
    try:
        found = MomentsFile.model_validate(json.load(file))
    except ValidationError as error:
        known = {*MomentsFile.model_fields, *MomentsRow.model_fields}
        place = ".".join(str(part) for part in error.errors()[0]["loc"] if type(part) is int or part in known)
        raise FormatError(f"{place or 'document'}: it is not of the form that {FORMAT} has") from None
    except (ValueError, RecursionError):
        raise FormatError("it is not JSON") from None
    if found.histogram in found.group:
        raise FormatError("histogram is a column of the groups")
    unit = GroupedMoments(_people(found, rules), found.group, found.histogram, _sorted(found.moments))
    counts, seen = unit.table.all_counts(), set[tuple[str, tuple[str, ...]]]()
    for number, row in enumerate(unit.rows, 1):
        _check(number, row, unit, counts, rules)
        if (row.variable, row.group) in seen:
            raise FormatError(f"row {number}: its variable and group are there twice")
        seen.add((row.variable, row.group))
    if len(unit.variables) > MAX_VARIABLES:
        raise FormatError(f"more than {MAX_VARIABLES} variables")
    if unit.histogram and unit.histogram not in unit.variables:
        raise FormatError("histogram is no variable of the moments")
    _scores(found, unit, rules)
    return [unit]


def _people(found: MomentsFile, rules: Rules) -> CrossTable:
    columns = [*found.group, *([found.histogram] if found.histogram else [])]
    if columns:
        tables = [{"name": "people", "columns": columns, "rows": [list(row) for row in found.people]}]
        text = json.dumps({"format": cross_table.FORMAT, "tables": tables})
        return cross_table.read(io.BytesIO(text.encode()), rules.levels, max_rows=rules.max_rows)[0]
    (row,) = found.people if len(found.people) == 1 else ((),)
    if len(row) != 1 or not isinstance(row[0], int) or not 0 <= row[0] <= MAX_COUNT:
        raise FormatError("people of no group must be one row of one number")
    return CrossTable("people", (), (), {(): row[0]} if row[0] else {})


def _sorted(rows: Sequence[MomentsRow]) -> tuple[MomentsRow, ...]:
    return tuple(sorted(rows, key=lambda row: (row.variable, row.group)))


def _check(number: int, row: MomentsRow, of: GroupedMoments, counts: dict[Key, int], rules: Rules) -> None:
    what = f"row {number}"
    bounds = rules.bounds.get(row.variable)
    if bounds is None:
        raise FormatError(f"{what}: variable is no number whose bounds this node declares")
    if len(row.group) != len(of.group):
        raise FormatError(f"{what}: group must have a category for each column")
    for place, level in enumerate(row.group):
        if len(level) > MAX_LEVEL or level not in of.table.levels[place]:
            raise FormatError(f"{what}: category {place + 1} is not one that this node declares")
    if row.n != counts[of.place(row.group)]:
        raise FormatError(f"{what}: n is not the number of people of the group")
    low, high = bounds
    slack = 1e-9 * max(1.0, abs(low), abs(high))
    most = (high - low) ** 2 / 4 * (row.n / (row.n - 1) if row.n > 1 else 1)
    if row.n and not (low - slack <= row.mean <= high + slack and row.variance <= most * (1 + 1e-9)):
        raise FormatError(f"{what}: mean or variance lies outside what the declared bounds allow")
    if not math.isfinite(row.mean):
        raise FormatError(f"{what}: mean is no number")


def _scores(found: MomentsFile, of: GroupedMoments, rules: Rules) -> None:
    """A number that the node declares to be a score is a sum over many variants, none of which rules it."""
    for variable in of.variables:
        facts = found.scores.get(variable)
        if variable not in rules.scores:
            if facts is not None:
                raise FormatError("scores names a variable that this node does not declare to be a score")
        elif facts is None or facts.variants < LEAST_VARIANTS or facts.largest > LARGEST_PART:
            raise FormatError(
                f"a score must have at least {LEAST_VARIANTS} variants, none with over {LARGEST_PART:.0%} of the"
                " variance"
            )
