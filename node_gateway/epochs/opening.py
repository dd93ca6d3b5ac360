"""Whether an epoch may open: every group of people that it does not share with an earlier one, or shares, is empty or
large enough. Pure.
"""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

LEAST = 20  # people of a part, by default


@dataclass(frozen=True)
class SmallPart:
    """A part of `people` beside the earlier epoch `other`: `joiners`, `leavers` or `overlap`."""

    part: str
    other: str
    people: int

    def sentence(self, least: int) -> str:
        """For the operator."""
        reason = {
            "joiners": f"{self.people} people are new since {self.other}: wait until there are {least}",
            "leavers": f"{self.people} people of {self.other} left: with fewer than {least}, others must leave too",
            "overlap": f"{self.people} people are in {self.other} as well: all, none, or at least {least} may be",
        }
        return reason[self.part]


def small_parts(
    people: AbstractSet[str], dataset: str, earlier: Mapping[str, tuple[str, AbstractSet[str]]], least: int
) -> list[SmallPart]:
    """What stops an epoch of `dataset` with these people. `earlier`: (dataset, people) of all open epochs, by name."""
    found = []
    if len(people) < least:
        found.append(SmallPart("joiners", "nobody", len(people)))
    for name, (_, others) in earlier.items():
        if not people & others:
            continue
        parts = {"joiners": people - others, "leavers": others - people, "overlap": people & others}
        found += [SmallPart(part, name, len(who)) for part, who in parts.items() if 0 < len(who) < least]
    return found
