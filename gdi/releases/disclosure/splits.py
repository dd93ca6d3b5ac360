"""Splits: levels of few people join `other`."""

from __future__ import annotations

from collections.abc import Hashable, Mapping

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
