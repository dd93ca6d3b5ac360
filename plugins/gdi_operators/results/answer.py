"""The merged answer for a page: its rows as far as a table shows them, and what its two drawings need, from one pass
over answer.tsv.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

MAX_ROWS = 20_000  # rows that the page's table gets; the file has all
MAX_POINTS = 6_000
BINS = 40
NUMBERS = {"POS": int, "AC": int, "AN": int, "AF": float, "NODES": int}


def read(file: Path) -> dict[str, Any]:
    """`{columns, rows, total, withheld, histogram, points}`. Blocking; a file that has not changed is not read again.
    ValueError where it is no answer.
    """
    state = file.stat()
    return _read(file, state.st_mtime_ns, state.st_size)


@lru_cache(maxsize=8)
def _read(file: Path, _changed: int, _size: int) -> dict[str, Any]:
    rows: list[list[Any]] = []
    histogram = [0] * BINS
    points: list[tuple[str, int, float | None]] = []
    step, total, withheld = 1, 0, 0
    with file.open(encoding="utf-8") as lines:
        columns = next(lines, "").rstrip("\n").split("\t")
        place = {name: i for i, name in enumerate(columns)}
        if not {"CHROM", "POS", "AC", "AF"} <= set(place):
            raise ValueError(f"{file.name} has no columns CHROM, POS, AC and AF")
        kinds = [NUMBERS.get(name, str) for name in columns]
        for line in lines:
            cells: list[Any] = [
                kind(text) if text else None for kind, text in zip(kinds, line.rstrip("\n").split("\t"), strict=True)
            ]
            if total < MAX_ROWS:
                rows.append(cells)
            af = cells[place["AF"]]
            withheld += cells[place["AC"]] is None
            if af is not None:
                histogram[min(int(af * BINS), BINS - 1)] += 1
            if total % step == 0:
                points.append((cells[place["CHROM"]], cells[place["POS"]], af))
                if len(points) > MAX_POINTS:  # every second one from here on, also of those there
                    points, step = points[::2], step * 2
            total += 1
    return {
        "columns": columns,
        "rows": rows,
        "total": total,
        "withheld": withheld,
        "histogram": histogram,
        "points": points,
    }
