"""A reader who tries every table that agrees with what left: what he knows of a union of cells is what all have in
common.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations, product

from gdi.releases.cross_table.table import Key

MAX_TABLES = 200_000


def tables(exact: Mapping[Key, int], sizes: Sequence[int]) -> tuple[list[Key], list[tuple[int, ...]]] | None:
    """The cells, and their counts in every table that has the exact counts; None where there are too many."""
    cells: list[Key] = [tuple(key) for key in product(*(range(n) for n in sizes))]
    sums = [
        [i for i, cell in enumerate(cells) if all(a is None or a == b for a, b in zip(key, cell, strict=True))]
        for key in exact
    ]
    of = [[j for j, members in enumerate(sums) if i in members] for i in range(len(cells))]
    rest, left = list(exact.values()), [len(members) for members in sums]
    found: list[tuple[int, ...]] = []
    now = [0] * len(cells)

    def fill(i: int) -> None:
        if len(found) > MAX_TABLES:
            return
        if i == len(cells):
            found.append(tuple(now))
            return
        last = {rest[j] for j in of[i] if left[j] == 1}
        for value in last if last else range(min(rest[j] for j in of[i]) + 1):
            if len(last) > 1 or any(rest[j] < value for j in of[i]):
                continue
            for j in of[i]:
                rest[j], left[j] = rest[j] - value, left[j] - 1
            now[i] = value
            fill(i + 1)
            for j in of[i]:
                rest[j], left[j] = rest[j] + value, left[j] + 1

    fill(0)
    return None if len(found) > MAX_TABLES else (cells, found)


def pinned(counts: Mapping[Key, int], exact: Mapping[Key, int], sizes: Sequence[int], floor: int) -> int | None:
    """How many unions of cells the reader knows to be about 1 to floor - 1 people; None where it takes too long."""
    tried = tables(exact, sizes)
    if tried is None:
        return None
    cells, found = tried
    small = [i for i, cell in enumerate(cells) if 0 < counts[cell] < floor]
    unions = (u for n in range(1, min(len(small), floor - 1) + 1) for u in combinations(small, n))
    few = 0
    for union in unions:
        sums = [sum(table[i] for i in union) for table in found]
        few += min(sums) >= 1 and max(sums) < floor
    return few
