"""Whether an epoch may open: every group of people that two cohorts do not share, or share, is empty or large enough.
Pure.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from itertools import combinations

from gdi.contracts.descriptor import LEAST

__all__ = ["LEAST", "SmallPart", "companions", "small_cohorts", "small_parts"]


@dataclass(frozen=True)
class SmallPart:
    """A part of `people` beside the cohort `other`: `joiners`, `leavers`, `overlap`, or of the epoch's own cohorts
    `own`.
    """

    part: str
    other: str
    people: int

    def sentence(self, least: int) -> str:
        """For the operator."""
        reason = {
            "joiners": f"{self.people} people are new since {self.other}: wait until there are {least}",
            "leavers": f"{self.people} people of {self.other} left: with fewer than {least}, others must leave too"
            " (--others-leave chooses them)",
            "overlap": f"{self.people} people are in {self.other} as well: all, none, or at least {least} may be",
            "own": f"{self.people} people are told apart by {self.other}: none, or at least {least} may be",
        }
        return reason[self.part]


def small_parts(
    people: AbstractSet[str], dataset: str, earlier: Mapping[str, tuple[str, AbstractSet[str]]], least: int
) -> list[SmallPart]:
    """What stops an epoch of `dataset` with these people. `earlier`: (dataset, people) of all open cohorts, by name."""
    found = []
    if len(people) < least:
        found.append(SmallPart("joiners", "nobody", len(people)))
    for name, (_, others) in earlier.items():
        if not people & others:
            continue
        parts = {"joiners": people - others, "leavers": others - people, "overlap": people & others}
        found += [SmallPart(part, name, len(who)) for part, who in parts.items() if 0 < len(who) < least]
    return found


def small_cohorts(
    whole: AbstractSet[str],
    parts: Mapping[str, AbstractSet[str]],
    earlier: Mapping[str, tuple[str, AbstractSet[str]]],
    least: int,
) -> list[SmallPart]:
    """What stops these parts of an epoch: by name, levels of splits and people who are complete. Each is compared with
    the whole, with each other part, and with every cohort of earlier epochs that differs from the new whole.
    """
    found = []
    for name, people in parts.items():
        for title, who in ((name, people), (f"those without {name}", whole - people)):
            if 0 < len(who) < least:
                found.append(SmallPart("own", title, len(who)))
    for (one, mine), (two, theirs) in combinations(parts.items(), 2):
        for title, who in ((f"{one} and {two}", mine & theirs), (f"{one} without {two}", mine - theirs)):
            if 0 < len(who) < least:
                found.append(SmallPart("own", title, len(who)))
        if 0 < len(theirs - mine) < least:
            found.append(SmallPart("own", f"{two} without {one}", len(theirs - mine)))
    for name, people in parts.items():
        for other, (_, others) in earlier.items():
            if not people & others or others == whole:
                continue
            for title, who in (("in", people & others), ("not in", people - others)):
                if 0 < len(who) < least:
                    found.append(SmallPart("own", f"{name}, {title} {other}", len(who)))
    return found


def companions(
    people: AbstractSet[str], before: AbstractSet[str], least: int, place: Callable[[str], str]
) -> frozenset[str]:
    """Who must leave with those of the epoch `before` that left, so that they are `least`: the first by `place`, a
    keyed hash. Empty where nobody left, or enough did.
    """
    left = len(before - people)
    if not 0 < left < least:
        return frozenset()
    return frozenset(sorted(people & before, key=place)[: least - left])
