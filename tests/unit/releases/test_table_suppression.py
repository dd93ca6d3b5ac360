"""What leaves of a table tells nothing about few people: a reader who tries all tables pins no union of small cells."""

from __future__ import annotations

import random
from itertools import product

import pytest

from gdi.releases.cross_table.suppression import Suppression, intervals
from gdi.releases.cross_table.table import CrossTable, Key
from tests.support.brute_force_reader import pinned

FLOOR = 3


def some(sizes: tuple[int, ...], seed: int, mean: float) -> dict[Key, int]:
    chance = random.Random(seed)
    cells = {tuple(key): int(chance.expovariate(1 / mean)) for key in product(*(range(n) for n in sizes))}
    letters = tuple("abcd"[: len(sizes)])
    return CrossTable("t", letters, tuple(tuple(map(str, range(n))) for n in sizes), cells).all_counts()


@pytest.mark.parametrize(("sizes", "mean"), [((4,), 3), ((2, 3), 3), ((3, 3), 1.2), ((2, 2, 2), 2)])
def test_no_union_of_small_cells_is_pinned_and_intervals_hold(sizes: tuple[int, ...], mean: float) -> None:
    seen = told = 0
    everybody: Key = (None,) * len(sizes)
    for seed in range(16):
        counts = some(sizes, seed, mean)
        stay = Suppression(counts, sizes, FLOOR).withheld()
        if everybody in stay:
            continue
        exact = {key: count for key, count in counts.items() if key not in stay}
        ranges = intervals(exact, sizes)
        assert all(ranges[key].low <= count <= ranges[key].high for key, count in counts.items()), seed
        few = pinned(counts, exact, sizes, FLOOR)
        if few is not None:
            seen, told = seen + 1, told + len(exact)
            assert few == 0, seed
    assert seen >= 10 and told > seen


def test_without_complementary_suppression_the_reader_succeeds() -> None:
    found = 0
    for seed in range(30):
        counts = some((2, 3), seed, 3)
        exact = {key: count for key, count in counts.items() if count >= FLOOR}
        found += bool((None, None) in exact and pinned(counts, exact, (2, 3), FLOOR))
    assert found > 3


def test_a_small_cell_takes_three_others_with_it() -> None:
    cells = {(0, 0): 2, (0, 1): 40, (1, 0): 50, (1, 1): 60}
    counts = CrossTable("t", ("a", "b"), (("0", "1"),) * 2, cells).all_counts()
    stay = Suppression(counts, (2, 2), 5).withheld()
    assert stay == {(0, 0), (0, 1), (1, 0), (1, 1)}
    ranges = intervals({key: count for key, count in counts.items() if key not in stay}, (2, 2))
    assert (ranges[0, 0].low, ranges[0, 0].high) == (0, 42) and ranges[0, None].exact


def test_what_was_told_before_stays_told_and_protects_nothing() -> None:
    cells = {(0, 0): 2, (0, 1): 40, (0, 2): 41, (1, 0): 50, (1, 1): 60, (1, 2): 61}
    counts = CrossTable("t", ("a", "b"), (("0", "1"), ("0", "1", "2")), cells).all_counts()
    known: set[Key] = {(0, 1), (1, 1)}
    stay = Suppression(counts, (2, 3), 5, known).withheld()
    assert stay == {(0, 0), (0, 2), (1, 0), (1, 2)}


def test_where_no_box_is_found_the_cells_stay_and_the_margins_leave() -> None:
    counts = CrossTable("t", ("a", "b"), (("0", "1"),) * 2, {(0, 0): 2, (0, 1): 4, (1, 0): 4, (1, 1): 60}).all_counts()
    stay = Suppression(counts, (2, 2), 5).withheld()
    assert {(0, 0), (0, 1), (1, 0), (1, 1)} <= stay and (None, None) not in stay


def test_a_large_table_is_judged_in_bounded_time() -> None:
    sizes = (8, 8, 8, 8)
    counts = some(sizes, 1, 8)
    assert len(Suppression(counts, sizes, 5).withheld()) < len(counts)
