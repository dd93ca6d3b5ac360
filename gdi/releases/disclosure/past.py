"""What left this node before, beside the cohort that asks now: which numbers a reader could compute with it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache

from gdi.releases.disclosure import parts
from gdi.releases.disclosure.floor import all_enough
from gdi.releases.disclosure.rules import Rule

Numbers = tuple[int, ...]
Cohort = frozenset[Hashable]  # the people; of data whose people are not listed, the datasets
People = Callable[[Numbers], Sequence[int]]


@lru_cache(maxsize=1024)
def _unions(cohorts: tuple[Cohort, ...]) -> list[parts.Union]:
    return parts.computable(cohorts)


@lru_cache(maxsize=1024)
def _linked(own: Cohort, cohorts: tuple[Cohort, ...]) -> tuple[int, ...]:
    """The places of those that share people with `own`, or with one that does."""
    near, more = set(own), True
    while more:
        fresh = [cohort for cohort in cohorts if cohort & near and not cohort <= near]
        near.update(*fresh)
        more = bool(fresh)
    return tuple(i for i, cohort in enumerate(cohorts) if cohort & near)


@dataclass(frozen=True)
class Past:
    """`cohorts`: those that something left of, by number; `own`: the cohort that asks, `number` its own where something
    left of it. `cells`: by key, what left of each cohort; `topics`: which keys are of one topic. `listed`: the cohorts
    are people, not datasets.
    """

    own: Cohort = frozenset()
    number: int | None = None
    cohorts: Mapping[int, Cohort] = field(default_factory=dict)
    cells: Mapping[str, Mapping[int, Numbers]] = field(default_factory=dict)
    listed: bool = False
    topics: Mapping[str, Collection[str]] = field(default_factory=dict)

    def statements(self, key: str) -> list[tuple[Cohort, Numbers]]:
        """What left of other cohorts that share people with this one, or with one that does."""
        return [
            (self.cohorts[number], numbers)
            for number, numbers in self.cells.get(key, {}).items()
            if number in self.cohorts and number != self.number
        ]

    @property
    def pieces(self) -> int:
        """Into how many the cohort may have been cut by those that left."""
        return 1 + sum(bool(self.own & cohort) for n, cohort in self.cohorts.items() if n != self.number)

    def spoken(self, topic: str, key: str) -> bool:
        """Whether the count of something else of the topic left of this cohort's people without that of the key: of
        this very cohort, or of others.
        """
        others = [other for other in self.topics.get(topic, ()) if other != key and "|" not in other]
        mine = self.cells.get(key, {})
        numbers = {n for other in others for n in self.cells[other] if n in self.cohorts and n not in mine}
        return any(self.own & self.cohorts[n] for n in numbers)

    def same(self, key: str, off: frozenset[Rule] = frozenset()) -> Numbers | None:
        """What left of this very cohort: the answer to the same question."""
        if self.number is None or Rule.LEDGER in off:
            return None
        return self.cells.get(key, {}).get(self.number)

    def others(self, key: str, exact: Callable[[Numbers], bool]) -> list[tuple[Cohort, Numbers]]:
        """What left of other cohorts that share people with this one, or with one that does; exact numbers only."""
        found = [(cohort, numbers) for cohort, numbers in self.statements(key) if exact(numbers)]
        linked = _linked(self.own, tuple(cohort for cohort, _ in found)) if found else ()
        return [found[i] for i in linked]

    def passes(
        self,
        key: str,
        new: Numbers,
        exact: Callable[[Numbers], bool],
        people: People,
        floor: int,
        *,
        off: frozenset[Rule] = frozenset(),
    ) -> bool:
        """Whether every number of people (`people` of the cell's numbers) that a reader could compute of the new cell
        and those that left passes the floor; the new cell alone is the kind's to judge.
        """
        before = [] if Rule.PARTS in off else self.others(key, exact)
        if len(before) >= parts.MAX_COHORTS:
            return False
        if not before:
            return True
        unions = _unions((*(cohort for cohort, _ in before), self.own))
        counts = [people(numbers) for numbers in (*(numbers for _, numbers in before), new)]
        return all_enough(unions, counts, floor, off)

    def around(self, key: str, exact: Callable[[Numbers], bool], count: int, most: int) -> tuple[int, int] | None:
        """An interval for the number at place `count` of the new cell, from what left before. None where nothing left,
        or where it is not known how many people the cohorts do not share.
        """
        if not self.listed:
            return None
        known = [(cohort, numbers[count]) for cohort, numbers in self.others(key, exact)]
        return parts.bounds(known, self.own, most)
