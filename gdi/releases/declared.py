"""What the descriptors of a run's datasets declare, as the kinds of release read it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Literal

from gdi.contracts.descriptor import Descriptor, SampleTable

FEWEST_VALUES = 20  # of a whole number, that a linear model may be of: of few values it would be sums of groups
STRICTNESS: tuple[Literal["public", "contract", "sensitive"], ...] = ("public", "contract", "sensitive")


def levels(descriptors: Sequence[Descriptor]) -> dict[str, tuple[str, ...]]:
    """By column of the sample tables, its categories or bins: columns that every dataset declares, and all alike."""
    of_each = [_levels(one.samples) if one.samples else {} for one in descriptors]
    if not of_each:
        return {}
    return {column: names for column, names in of_each[0].items() if all(each.get(column) == names for each in of_each)}


def columns(descriptors: Sequence[Descriptor]) -> frozenset[str]:
    """The columns that every dataset's sample table has and that may be asked about."""
    of_each = [one.samples.columns if one.samples else frozenset[str]() for one in descriptors]
    return frozenset.intersection(*of_each) if of_each else frozenset()


def numbers(descriptors: Sequence[Descriptor]) -> frozenset[str]:
    """The columns that every dataset declares to be numbers: whole ones only where there are at least FEWEST_VALUES."""
    of_each = [
        {
            one.column
            for one in descriptor.samples.phenotypes
            if one.type == "number"
            or (one.type == "integer" and (one.maximum or 0) - (one.minimum or 0) >= FEWEST_VALUES)
        }
        if descriptor.samples
        else set[str]()
        for descriptor in descriptors
    ]
    return frozenset.intersection(*map(frozenset, of_each)) if of_each else frozenset()


def membership(descriptors: Sequence[Descriptor]) -> Literal["", "contract", "public", "sensitive"]:
    """The strictest word on membership; none where nothing is described."""
    return max((one.membership for one in descriptors), key=STRICTNESS.index, default="")


def _levels(table: SampleTable) -> Mapping[str, tuple[str, ...]]:
    found = {}
    for one in table.phenotypes:
        bins = tuple(f"{low:g}..{high:g}" for low, high in pairwise(one.bins))
        if names := one.levels or bins:
            found[one.column] = names
    if table.sex:
        found[table.sex.column] = (table.sex.female, table.sex.male)
    return found
