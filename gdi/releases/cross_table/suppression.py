"""Which cells of a table are withheld, so that no sum and no difference of those that leave is about few people.

A box is a cell, one other level for each of its columns, and all corners between: adding people at its even corners
and taking as many away at its odd ones changes no margin. A small cell whose box is withheld, and whose odd corners
each have at least as many people as the floor, may as well be that much larger: no reader can tell, not even with
small cells added up. Where margins are withheld too, columns may be swapped together, or not at all: then there are
fewer corners, and the margins that change are part of the box. (Complementary suppression by hypercubes: Repsilber
1994; Giessing and Repsilber, in Inference Control in Statistical Databases, LNCS 2316, 2002.)
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from itertools import combinations, product

from gdi.releases.cross_table.table import Key
from gdi.releases.disclosure.floor import Range

MAX_TRIES = 400_000  # corners looked at for a table; beyond that its finest level stays
TRIES = 4_000  # the same for one cell
MARGIN = 3  # a margin is worth so many of its cells
Blocks = tuple[tuple[int, ...], ...]


def columns_of(key: Key) -> frozenset[int]:
    """The columns by which a cell is told from others."""
    return frozenset(i for i, level in enumerate(key) if level is not None)


@dataclass
class Suppression:
    """`counts` of every cell and margin. `known` were told before and cannot be withheld any more; `must`, beside those
    below the floor, may not be told.
    """

    counts: Mapping[Key, int]
    sizes: Sequence[int]
    floor: int
    known: Collection[Key] = frozenset()
    must: Collection[Key] = frozenset()
    _hidden: set[Key] = field(default_factory=set)
    _closed: set[frozenset[int]] = field(default_factory=set)
    _tries: int = 0

    def withheld(self) -> set[Key]:
        """The cells that stay."""
        must = set(self.must)
        self._hidden = {key for key, count in self.counts.items() if count < self.floor and key not in self.known}
        if must:
            self._hidden |= {key for key in self.counts if key not in self.known and any(_within(key, m) for m in must)}
        small = [key for key in self._hidden if self.counts[key] or key in must]
        for key in sorted(small, key=lambda k: (len(columns_of(k)), tuple(-1 if v is None else v for v in k))):
            columns = columns_of(key)
            if any(closed <= columns for closed in self._closed):
                continue
            box = self._box(key, columns)
            if box is None:
                self._closed.add(columns)
                self._hidden |= {k for k in self.counts if columns <= columns_of(k) and k not in self.known}
            else:
                self._hidden |= box
        return self._hidden

    def _box(self, key: Key, columns: frozenset[int]) -> set[Key] | None:
        """The cheapest box around the cell: all cells that it needs withheld. None where there is none."""
        rest = [i for i in range(len(key)) if i not in columns]
        best: tuple[int, int] | None = None
        chosen: set[Key] | None = None
        limit = min(self._tries + TRIES, MAX_TRIES)
        for blocks in _blocks(tuple(sorted(columns))):
            for place in product(*(range(self.sizes[i]) for i in rest)):
                inner = list(key)
                for i, level in zip(rest, place, strict=True):
                    inner[i] = level
                for other in self._others(cell_of(inner), blocks):
                    if self._tries > limit:
                        return chosen
                    cells = self._needed(cell_of(inner), other, blocks)
                    if cells is None:
                        continue
                    fresh = cells - self._hidden
                    cost = (sum(MARGIN ** cell.count(None) for cell in fresh), sum(self.counts[cell] for cell in fresh))
                    if best is None or cost < best:
                        best, chosen = cost, cells
                    if cost == (0, 0):
                        return cells
        return chosen

    def _others(self, inner: Key, blocks: Blocks) -> Iterator[Mapping[int, int]]:
        """Other levels of each block's columns, where the corners beside the cell have enough people."""
        choices = []
        for block in blocks:
            beside = []
            for levels in product(*([n for n in range(self.sizes[i]) if n != inner[i]] for i in block)):
                self._tries += 1
                corner = swapped(inner, dict(zip(block, levels, strict=True)))
                if self.counts[corner] >= self.floor:
                    beside.append((corner not in self._hidden, self.counts[corner], levels))
            if not beside:
                return
            choices.append([levels for _, _, levels in sorted(beside)])
        columns = [i for block in blocks for i in block]
        for chosen in product(*choices):
            self._tries += 1
            yield dict(zip(columns, (level for levels in chosen for level in levels), strict=True))

    def _needed(self, inner: Key, other: Mapping[int, int], blocks: Blocks) -> set[Key] | None:
        """All cells that the box changes, at every level of margins: those of its corners that have a column of each
        block. None where one of them is known, or an odd corner has too few people.
        """
        cells: set[Key] = set()
        everything = range(len(inner))
        levels = [
            kept
            for n in range(1, len(inner) + 1)
            for kept in combinations(everything, n)
            if all(any(i in kept for i in block) for block in blocks)
        ]
        for turned in (s for n in range(len(blocks) + 1) for s in combinations(blocks, n)):
            self._tries += 1
            corner = swapped(inner, {i: other[i] for block in turned for i in block})
            if len(turned) % 2 and self.counts[corner] < self.floor:
                return None
            for kept in levels:
                cell = tuple(level if i in kept else None for i, level in enumerate(corner))
                if cell in self.known:
                    return None
                cells.add(cell)
        return cells


def cell_of(levels: Sequence[int | None]) -> Key:
    return tuple(levels)


def swapped(cell: Key, other: Mapping[int, int]) -> Key:
    """The cell with other levels in some columns."""
    return tuple(other.get(i, level) if level is not None else None for i, level in enumerate(cell))


@cache
def _blocks(columns: tuple[int, ...]) -> list[Blocks]:
    """The ways to swap some of the columns, each by itself or several together; each by itself first."""
    found: list[Blocks] = []
    for n in range(len(columns), 0, -1):
        for some in combinations(columns, n):
            found += _partitions(some)
    return sorted(found, key=lambda blocks: -len(blocks))


def _partitions(columns: tuple[int, ...]) -> list[Blocks]:
    if not columns:
        return [()]
    found = []
    for blocks in _partitions(columns[1:]):
        found.append(((columns[0],), *blocks))
        found += [(*blocks[:i], (columns[0], *block), *blocks[i + 1 :]) for i, block in enumerate(blocks)]
    return found


def _within(key: Key, of: Key) -> bool:
    """Whether a cell counts people of another one only."""
    return all(level is None or level == mine for mine, level in zip(key, of, strict=True))


def intervals(exact: Mapping[Key, int], sizes: Sequence[int]) -> dict[Key, Range]:
    """What every cell lies between, of the exact ones alone: whoever reads the release can compute the same. The total
    must be exact.
    """
    everything = list(product(*((*range(size), None) for size in sizes)))
    total = exact[(None,) * len(sizes)]
    low = {key: exact.get(key, 0) for key in everything}
    high = {key: exact.get(key, total) for key in everything}
    by_level = sorted(everything, key=lambda key: len(columns_of(key)))
    for _ in range(2):
        for key in reversed(by_level):  # margins, of their cells
            if key not in exact:
                for i, level in enumerate(key):
                    if level is None:
                        cells = [(*key[:i], other, *key[i + 1 :]) for other in range(sizes[i])]
                        low[key] = max(low[key], sum(low[cell] for cell in cells))
                        high[key] = min(high[key], sum(high[cell] for cell in cells))
        ends = _lines(low, high, sizes)
        for key in by_level:  # cells, of their margins and the cells beside them
            if key not in exact:
                for i, level in enumerate(key):
                    if level is not None:
                        margin = (*key[:i], None, *key[i + 1 :])
                        lows, highs = ends[margin, i]
                        high[key] = min(high[key], high[margin] - (lows - low[key]))
                        low[key] = max(low[key], low[margin] - (highs - high[key]))
    return {key: Range(low[key], max(low[key], high[key])) for key in everything}


def _lines(
    low: Mapping[Key, int], high: Mapping[Key, int], sizes: Sequence[int]
) -> dict[tuple[Key, int], tuple[int, int]]:
    """The sums of both ends along each line of cells, by its margin and column."""
    found = {}
    for margin in low:
        for i, level in enumerate(margin):
            if level is None:
                cells = [(*margin[:i], other, *margin[i + 1 :]) for other in range(sizes[i])]
                found[margin, i] = (sum(low[cell] for cell in cells), sum(high[cell] for cell in cells))
    return found
