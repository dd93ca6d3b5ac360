"""How a cohort is answered beside those that were answered before: as pieces that nobody was told of yet.

What is told of a number is one function of disjoint pieces of people: of each piece its exact count, where that is at
least the floor, or "0 to floor - 1"; or of an exact piece that it was cut in two, or could not be. A cohort is looked
at only where it adds a piece of fresh people, or cuts one exact piece in two; whatever else is asked is computed from
what was told. Which of these it is depends on the question and on what left, never on the number that is asked for
(simulatable auditing: Kenthapadi, Mishra, Nissim, PODS 2005).

Nothing is pinned: replace each piece's count that is below the floor by none. All that was told stays as it is, and in
that table every group of people has none or at least the floor. So a reader who knows the rule and all cohorts cannot
say of any group that it has 1 to floor - 1 (tests/unit/releases/test_disclosure_parts.py tries all small tables).
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

Cohort = frozenset[Hashable]  # the people; of data whose people are not listed, the datasets


@dataclass(frozen=True)
class PiecePlan:
    """`alone`: nobody of the cohort was spoken of. `known`: it is what the blocks at `plus` have together, without
    those at `minus`. `joined`: the blocks at `plus` and fresh people. `cut`: of the exact block `of`, the blocks at
    `plus` and a new piece; those at `minus` are elsewhere in that block. `within`: it lies inside the block `of`, which
    is not exact. `closed`: neither; `fresh`: people of it were not spoken of. Places are those of `statements`.
    """

    how: Literal["alone", "known", "joined", "cut", "within", "closed"]
    plus: tuple[int, ...] = ()
    minus: tuple[int, ...] = ()
    of: int = -1
    fresh: bool = False


@lru_cache(maxsize=4096)  # nearly all sites of a release have the same past
def plan(own: Cohort, statements: tuple[tuple[Cohort, bool], ...]) -> PiecePlan:
    """How `own` is answered beside the cohorts of `statements`, each with whether its number was exact."""
    near = [place for place, (cohort, _) in enumerate(statements) if cohort & own]
    if not near:
        return PiecePlan("alone")
    same = sorted((not statements[place][1], place) for place in near if statements[place][0] == own)
    if same:
        return PiecePlan("known", (same[0][1],))
    fresh = bool(own.difference(*(statements[place][0] for place in near)))
    if any(not (statements[place][0] < own or own < statements[place][0]) for place in near):
        return PiecePlan("closed", fresh=fresh)
    over = [place for place in near if own < statements[place][0]]
    if not over:
        inside = _largest(near, statements)
        if not _disjoint(inside, statements):
            return PiecePlan("closed", fresh=fresh)
        return PiecePlan("joined" if fresh else "known", tuple(inside), fresh=fresh)
    return _cut(own, over, statements)


def _cut(own: Cohort, over: list[int], statements: tuple[tuple[Cohort, bool], ...]) -> PiecePlan:
    """Inside of one that was statements: of the smallest such."""
    least = min(over, key=lambda place: (len(statements[place][0]), place))
    block, exact = statements[least]
    if any(not block <= statements[place][0] for place in over):
        return PiecePlan("closed")
    within = [place for place, (cohort, _) in enumerate(statements) if cohort < block]
    if any(cohort & block and not (cohort <= block or block <= cohort) and is_exact for cohort, is_exact in statements):
        return PiecePlan("closed")  # two exact ones that cross: of a ledger of before
    if not exact:
        return PiecePlan("within", of=least) if not within else PiecePlan("closed")
    largest = _largest(within, statements)
    if not _disjoint(largest, statements) or not all(statements[place][1] for place in largest):
        return PiecePlan("closed")
    plus = tuple(place for place in largest if statements[place][0] < own)
    minus = tuple(place for place in largest if not statements[place][0] & own)
    if len(plus) + len(minus) < len(largest):
        return PiecePlan("closed")
    if not own.difference(*(statements[place][0] for place in plus)):
        return PiecePlan("known", plus)
    if own == block.difference(*(statements[place][0] for place in minus)):
        return PiecePlan("known", (least,), minus)
    return PiecePlan("cut", plus, minus, least)


def _largest(places: Sequence[int], statements: tuple[tuple[Cohort, bool], ...]) -> list[int]:
    """Those that lie in no other of them; of equal ones an exact one, else the first."""
    found: list[int] = []
    for place in sorted(places, key=lambda p: (-len(statements[p][0]), not statements[p][1], p)):
        if not any(statements[place][0] <= statements[other][0] for other in found):
            found.append(place)
    return sorted(found)


def _disjoint(places: Sequence[int], statements: tuple[tuple[Cohort, bool], ...]) -> bool:
    return len(frozenset[Hashable]().union(*(statements[p][0] for p in places))) == sum(
        len(statements[p][0]) for p in places
    )


def may_be_cut(copies: int, calls: int, people: tuple[int, int], most: int, floor: int) -> bool:
    """Whether an exact block of `copies` among `calls` may be looked at in two pieces of so many `people`, who have at
    most `most` copies each: only where "it cannot be cut" may also mean that one of them has none. Then the other has
    all copies, and at least the floor of its people one of the other allele. All of it is known to readers.
    """
    if min(people) < floor:
        return False
    other = calls - copies
    return any(
        number <= calls - most * without - floor and calls - most * without >= most * floor
        for number in (copies, other)
        for without in people
    )
