"""Reads `gdi-table/1`: counts of people by categories that the node declares. FormatError names the table and the
field, never a value.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import product
from typing import IO, Any

from gdi.releases.kind import FormatError

FORMAT = "gdi-table/1"  # what a workflow writes
RELEASED = "gdi-table-released/1"  # what leaves the node
MAX_COLUMNS, MAX_CELLS, MAX_TABLES = 4, 10_000, 20
MAX_COUNT = 2**31 - 1
OTHER = ("other", "unknown")
"""Categories that every column has beside the declared ones: levels that were joined, and people without a value."""
NAME = r"[a-z][a-z0-9-]{0,62}"
COLUMN = r"[A-Za-z_][A-Za-z0-9_.-]{0,63}"
MAX_LEVEL = 100  # characters

Key = tuple[int | None, ...]
"""A cell: the number of a level for each column, None for all people whatever their level."""


@dataclass(frozen=True)
class CrossTable:
    """`counts` of people by level of each column, where there are any."""

    name: str
    columns: tuple[str, ...]
    levels: tuple[tuple[str, ...], ...]
    counts: Mapping[Key, int]

    @property
    def people(self) -> int:
        return sum(self.counts.values())

    def all_counts(self) -> dict[Key, int]:
        """Every cell and every margin, zeros as well."""
        sizes = [(*range(len(levels)), None) for levels in self.levels]
        total: dict[Key, int] = dict.fromkeys(product(*sizes), 0)
        masks = list(product((True, False), repeat=len(self.columns)))
        for key, count in self.counts.items():
            for mask in masks:
                total[tuple(level if kept else None for level, kept in zip(key, mask, strict=True))] += count
        return total


def read(file: IO[bytes], levels: Mapping[str, tuple[str, ...]], *, max_rows: int) -> list[CrossTable]:
    """The tables, sorted by name. `levels`: by column, the categories that the node declares."""
    try:
        document = json.load(file)
    except (ValueError, RecursionError):
        raise FormatError("it is not JSON") from None
    if not isinstance(document, dict) or set(document) != {"format", "tables"}:
        raise FormatError("it must have exactly the fields format and tables")
    if document["format"] != FORMAT:
        raise FormatError(f"format is not {FORMAT}")
    tables = document["tables"]
    if not isinstance(tables, list) or not 0 < len(tables) <= MAX_TABLES:
        raise FormatError(f"tables must be a list of 1 to {MAX_TABLES}")
    found = [_table(value, number, levels, max_rows) for number, value in enumerate(tables, 1)]
    if len({table.name for table in found}) != len(found):
        raise FormatError("two tables have one name")
    return sorted(found, key=lambda table: table.name)


def _table(value: Any, number: int, declared: Mapping[str, tuple[str, ...]], max_rows: int) -> CrossTable:  # any JSON
    what = f"table {number}"
    if not isinstance(value, dict) or set(value) != {"name", "columns", "rows"}:
        raise FormatError(f"{what}: it must have exactly the fields name, columns and rows")
    name, columns, rows = value["name"], value["columns"], value["rows"]
    if not isinstance(name, str) or not re.fullmatch(NAME, name):
        raise FormatError(f"{what}: name is not of the form {NAME}")
    if not isinstance(columns, list) or not 0 < len(columns) <= MAX_COLUMNS:
        raise FormatError(f"{what}: columns must be a list of 1 to {MAX_COLUMNS}")
    for place, column in enumerate(columns, 1):
        if not isinstance(column, str) or column not in declared:
            raise FormatError(f"{what}: column {place} is not one whose categories this node declares")
    if len(set(columns)) != len(columns):
        raise FormatError(f"{what}: a column is named twice")
    levels = tuple(tuple(dict.fromkeys((*declared[column], *OTHER))) for column in columns)
    if math.prod(map(len, levels)) > MAX_CELLS:
        raise FormatError(f"{what}: more than {MAX_CELLS} cells")
    if not isinstance(rows, list) or len(rows) > min(MAX_CELLS, max_rows):
        raise FormatError(f"{what}: rows must be a list of at most {min(MAX_CELLS, max_rows)}")
    places = [{level: i for i, level in enumerate(of)} for of in levels]
    counts: dict[Key, int] = {}
    for line, row in enumerate(rows, 1):
        if not isinstance(row, list) or len(row) != len(columns) + 1:
            raise FormatError(f"{what}, row {line}: it must be a list of a category for each column, and a count")
        *texts, count = row
        if type(count) is not int or not 0 <= count <= MAX_COUNT:
            raise FormatError(f"{what}, row {line}: the count must be a whole number from 0 to {MAX_COUNT}")
        for place, text in enumerate(texts):
            if not isinstance(text, str) or text not in places[place]:
                raise FormatError(f"{what}, row {line}: category {place + 1} is not one that this node declares")
        key = tuple(places[i][text] for i, text in enumerate(texts))
        if key in counts:
            raise FormatError(f"{what}, row {line}: its categories are there twice")
        counts[key] = count
    kept = {key: count for key, count in sorted(counts.items()) if count}
    return CrossTable(name, tuple(columns), levels, kept)
