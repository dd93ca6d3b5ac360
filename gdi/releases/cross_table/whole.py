"""Tables that leave whole, or only their columns: which cells stay can be replayed by anybody, and tells nothing.

A column leaves where each of its levels has nobody or at least the floor; the table where, of the levels that somebody
has, each combination has at least the floor. A table that stays may be any of those with the columns that left. Among
them is, for each cell, one that gives this cell as many people as the smaller of its levels has (fill the others as
they come); it has empty cells, so that it stays as well. So no cell and no sum of cells can be known to have 1 to
floor - 1 people. (tests/unit/releases/test_table_replay.py replays whole small domains.)
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from itertools import product

from gdi.releases.cross_table.table import Key


def beside_whole(counts: Mapping[Key, int], sizes: Sequence[int], floor: int, untold: Collection[Key]) -> set[Key]:
    """The cells that stay. `counts` of every cell and margin; `untold` were asked for before, and did not leave."""
    nobody: Key = (None,) * len(sizes)
    leaving, used = {nobody}, list[list[int]]()
    for column, size in enumerate(sizes):
        margin = {level: (*nobody[:column], level, *nobody[column + 1 :]) for level in range(size)}
        people = {level: counts[key] for level, key in margin.items()}
        if all(not count or count >= floor for count in people.values()):
            leaving.update(margin.values())
            used.append([level for level, count in people.items() if count])
    if len(used) == len(sizes) and all(counts[cell] >= floor for cell in product(*used)):
        leaving.update(counts)
    return set(counts) - (leaving - set(untold))
