"""Adds up the tables of several nodes (release format `gdi-table-released/1`): exact counts where every node's are,
intervals where they are not.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from gdi.releases.cross_table.table import COLUMN, MAX_CELLS, MAX_COLUMNS, MAX_LEVEL, MAX_TABLES, NAME
from gdi.releases.kind import BadReleaseError

COLUMNS = (
    "TABLE",
    *(f"{what}_{n}" for n in range(1, MAX_COLUMNS + 1) for what in ("COLUMN", "LEVEL")),
    *("PEOPLE", "NODES", "PEOPLE_MIN", "PEOPLE_MAX", "REASON"),
)
Count = Annotated[int, Field(ge=0, lt=2**53, strict=True)]
Level = Annotated[str, Field(min_length=1, max_length=MAX_LEVEL, pattern=r"^[^\x00-\x1f\x7f]+$")]
Place = tuple[str, tuple[tuple[str, str], ...]]  # table, and (column, level) of what the cell is told by


class ReleasedTable(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)
    name: str = Field(pattern=f"^{NAME}$")
    columns: list[Annotated[str, Field(pattern=f"^{COLUMN}$")]] = Field(min_length=1, max_length=MAX_COLUMNS)
    levels: list[Annotated[list[Level], Field(min_length=1, max_length=MAX_CELLS)]]

    @model_validator(mode="after")
    def _one_each(self) -> Self:
        if len(self.levels) != len(self.columns) or len(set(self.columns)) != len(self.columns):
            raise ValueError("columns and levels do not agree")
        return self


class ReleasedCell(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)
    table: str
    cell: list[Level | None]
    min: Count
    max: Count

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.min > self.max:
            raise ValueError("an interval ends before it begins")
        return self


class ReleasedTables(BaseModel):
    model_config = ConfigDict(extra="ignore")
    format: str = Field(pattern=r"^gdi-table-released/1$")
    tables: list[ReleasedTable] = Field(max_length=MAX_TABLES)
    cells: list[ReleasedCell] = Field(max_length=MAX_TABLES * 2**MAX_COLUMNS * MAX_CELLS)
    withheld: dict[str, int] = Field(default_factory=dict)

    def by_place(self) -> dict[Place, ReleasedCell]:
        """The cells by their place. ValueError where one has no table, or is there twice."""
        columns = {table.name: table.columns for table in self.tables}
        found: dict[Place, ReleasedCell] = {}
        for cell in self.cells:
            of = columns.get(cell.table)
            if of is None or len(of) != len(cell.cell):
                raise ValueError(f"a cell is of no table ({cell.table})")
            pairs = ((column, level) for column, level in zip(of, cell.cell, strict=True) if level is not None)
            place = cell.table, tuple(sorted(pairs))
            if place in found:
                raise ValueError(f"a cell of {cell.table} is there twice")
            found[place] = cell
        return found


@dataclass(frozen=True)
class MergedCell:
    """One row of the answer: `people` (fewest, most) over all nodes; `nodes` told their count exactly. `levels`: column
    and category, in the order of the table's columns; none of all people.
    """

    table: str
    levels: tuple[tuple[str, str], ...]
    people: tuple[int, int]
    nodes: int
    reason: str = ""

    @property
    def count(self) -> int | None:
        """How many people, where it is exact."""
        return self.people[0] if self.people[0] == self.people[1] and not self.reason else None


def parse(node: str, data: bytes) -> ReleasedTables:
    """A node's release. BadReleaseError naming node and place."""
    try:
        release = ReleasedTables.model_validate_json(data)
        release.by_place()
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(p) for p in first["loc"]) or "document"
        raise BadReleaseError(f"The tables of {node} are not of their format: {place}: {first['msg']}") from None
    except ValueError as error:
        raise BadReleaseError(f"The tables of {node} are not of their format: {error}") from None
    return release


def merge(releases: Mapping[str, ReleasedTables], nodes: Iterable[str]) -> list[MergedCell]:
    """Sums over `nodes` (all of the plan), table by table, margins first. A category that a node does not declare has
    nobody there; a table that it withheld may have any number of people, so its sums have no upper end and are not
    listed as exact: `PEOPLE_MAX` is then empty in the answer.
    """
    wanted = sorted(set(nodes))
    cells = {node: releases[node].by_place() for node in wanted}
    tables: dict[str, list[str]] = {}
    levels: dict[tuple[str, str], dict[str, None]] = {}
    for node in wanted:
        for table in releases[node].tables:
            columns = tables.setdefault(table.name, list(table.columns))
            if sorted(columns) != sorted(table.columns):
                raise BadReleaseError(f"The tables {table.name} of {', '.join(wanted)} have different columns.")
            for column, of in zip(table.columns, table.levels, strict=True):
                levels.setdefault((table.name, column), {}).update(dict.fromkeys(of))
    answers = []
    for name, columns in sorted(tables.items()):
        has = {node: any(table.name == name for table in releases[node].tables) for node in wanted}
        places = {place: None for node in wanted for place in cells[node] if place[0] == name}
        order = [list(levels[name, column]) for column in columns]
        merged = [_merged(place, columns, cells, has) for place in places]
        merged.sort(key=lambda cell: _rank(cell, columns, order))
        answers += merged
    return answers


UNBOUNDED = 2**53
"""The most people of a cell that a node told nothing about."""


def _merged(
    place: Place, columns: list[str], cells: Mapping[str, Mapping[Place, ReleasedCell]], has: Mapping[str, bool]
) -> MergedCell:
    low = high = exact = 0
    for node, of in cells.items():
        cell = of.get(place)
        if cell is not None:
            low, high, exact = low + cell.min, high + cell.max, exact + (cell.min == cell.max)
        elif has[node]:
            exact += 1  # it has no such category, so nobody there is of it
        else:
            high = UNBOUNDED
    levels = dict(place[1])
    shown = tuple((column, levels[column]) for column in columns if column in levels)
    return MergedCell(place[0], shown, (low, min(high, UNBOUNDED)), exact, "" if exact == len(cells) else "small")


def _rank(cell: MergedCell, columns: list[str], order: list[list[str]]) -> tuple[int, tuple[int, ...]]:
    levels = dict(cell.levels)
    return len(levels), tuple(order[i].index(levels[c]) + 1 if c in levels else 0 for i, c in enumerate(columns))


def table(answers: Iterable[MergedCell]) -> str:
    """The answer as tab-separated text. PEOPLE is empty where it is not exact, PEOPLE_MAX where a node told nothing."""
    lines = ["\t".join(COLUMNS)]
    for a in answers:
        pairs = [text for pair in a.levels for text in pair]
        pairs += [""] * (2 * MAX_COLUMNS - len(pairs))
        high = "" if a.people[1] >= UNBOUNDED else a.people[1]
        cells = [a.table, *pairs, "" if a.count is None else a.count, a.nodes, a.people[0], high, a.reason]
        lines.append("\t".join(map(str, cells)))
    return "\n".join(lines) + "\n"
