"""The answer's table as a page shows it: read once from the file, bounded in rows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

MISSING_NODES = "MISSING_NODES"  # the last column of an answer that lacks nodes of its run
MAX_ROWS = 20_000  # rows that the page's table gets; the file has all
Value = str | int | float | None


@dataclass(frozen=True)
class Column:
    """A column of the answer. An empty cell is None. `counted`: a row whose cell is empty here counts as withheld."""

    name: str
    type: type[str] | type[int] | type[float] = str
    counted: bool = False


@dataclass
class Page:
    """The first `MAX_ROWS` rows; how many there are in all, and how many of them are withheld. `drawing`: what the
    kind's own drawing in the page needs.
    """

    columns: list[str]
    rows: list[list[Value]] = field(default_factory=list)
    total: int = 0
    withheld: int = 0
    drawing: dict[str, Any] = field(default_factory=dict)  # JSON

    def json(self) -> dict[str, Any]:
        """`{columns, rows, total, withheld}` and the drawing's own fields."""
        return {
            "columns": self.columns,
            "rows": self.rows,
            "total": self.total,
            "withheld": self.withheld,
            **self.drawing,
        }


def name_missing(file: Path, nodes: Sequence[str]) -> None:
    """Adds the column `MISSING_NODES` to a table, with the same names in each row: who reads the table, however, reads
    that they are not in it.
    """
    draft, names = file.with_suffix(".missing"), ",".join(nodes)
    with file.open(encoding="utf-8", newline="") as lines, draft.open("w", encoding="utf-8", newline="") as out:
        for number, line in enumerate(lines):
            out.write(f"{line.rstrip(chr(10))}\t{names if number else MISSING_NODES}\n")
    draft.replace(file)


def read_page(file: Path, columns: Sequence[Column], watch: Callable[[list[Value]], None] | None = None) -> Page:
    """One pass over the table; `watch` sees every row. ValueError where the file has other columns or a cell is no
    number where one must be.
    """
    names = [column.name for column in columns]
    page = Page(names)
    counted = [i for i, column in enumerate(columns) if column.counted]
    with file.open(encoding="utf-8") as lines:
        head = next(lines, "").rstrip("\n").split("\t")
        if head == [*names, MISSING_NODES]:
            columns, page.columns = [*columns, Column(MISSING_NODES)], head
        elif head != names:
            raise ValueError(f"{file.name} has no columns {', '.join(names)}")
        for line in lines:
            texts = line.rstrip("\n").split("\t")
            row: list[Value] = [
                column.type(text) if text else None for column, text in zip(columns, texts, strict=True)
            ]
            if page.total < MAX_ROWS:
                page.rows.append(row)
            page.total += 1
            page.withheld += any(row[i] is None for i in counted)
            if watch is not None:
                watch(row)
    return page
