"""The floor: how few people a number may be about, and what a reader is told of a number that stays."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from gdi.releases.disclosure.parts import Union
from gdi.releases.disclosure.rules import Rule


class Range(NamedTuple):
    """A number that a reader is told: exact where both ends are equal."""

    low: int
    high: int

    @property
    def exact(self) -> bool:
        return self.low == self.high


def enough(people: int, floor: int, off: frozenset[Rule] = frozenset()) -> bool:
    """Whether a number of people may be known: at least the floor. Zero does not pass: it would tell, of a rare allele,
    that nobody has it.
    """
    return people >= floor or (people == 0 and Rule.ZERO in off)


def few(people: int, floor: int) -> bool:
    """Whether a number is about some people, but fewer than the floor: of numbers that may be zero."""
    return 0 < people < floor


def all_enough(unions: Iterable[Union], counts: Sequence[Sequence[int]], floor: int, off: frozenset[Rule]) -> bool:
    """Whether every union passes, for each of the counts: `counts[i]` are those of cohort i, all of the same length."""
    columns = list(zip(*counts, strict=True))
    return all(enough(union.of(column), floor, off) for union in unions for column in columns)
