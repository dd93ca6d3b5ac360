"""Splits: the cells of a split leave all or none, and levels of few people join `other`."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence

from gdi.releases.disclosure.floor import enough
from gdi.releases.disclosure.rules import Rule

OTHER = "other"


def levels(column: Mapping[Hashable, str], least: int) -> dict[str, set[Hashable]]:
    """People by level. Levels of fewer than `least` people are put together as `other`; where `other` would still be
    neither empty nor `least`, the smallest level joins it.
    """
    found: dict[str, set[Hashable]] = {}
    for person, level in column.items():
        found.setdefault(level, set()).add(person)
    other = found.pop(OTHER, set())
    for level in [name for name, people in found.items() if len(people) < least]:
        other |= found.pop(level)
    while other and len(other) < least and found:
        other |= found.pop(min(found, key=lambda name: (len(found[name]), name)))
    return found | ({OTHER: other} if other else {})


def leaves(
    whole_left: bool, cells: Sequence[Sequence[int]], floor: int, off: frozenset[Rule] = frozenset()
) -> list[bool]:
    """Which cells of a split leave: all, where the whole left and every number of people of every cell passes, or
    none. What is left out of a split is found by subtraction from the whole.
    """
    each = [all(enough(people, floor, off) for people in cell) for cell in cells]
    if Rule.SPLITS in off:
        return each
    return [whole_left and all(each)] * len(cells)
