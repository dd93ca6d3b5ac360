"""What the descriptors of a run's datasets declare, as the kinds of release read it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Literal, TypeVar

from gdi.contracts.descriptor import Descriptor, Phenotype

V = TypeVar("V")
FEWEST_VALUES = 20  # of a whole number, that a linear model may be of: of few values it would be sums of groups
STRICTNESS: tuple[Literal["public", "contract", "sensitive"], ...] = ("public", "contract", "sensitive")


def levels(descriptors: Sequence[Descriptor]) -> dict[str, tuple[str, ...]]:
    """By column of the sample tables, and by name of what is derived of genotypes, its categories or bins: those that
    every dataset declares, and all alike.
    """
    return _alike([_levels(one) for one in descriptors])


def bounds(descriptors: Sequence[Descriptor]) -> dict[str, tuple[float, float]]:
    """By number (`numbers`, and what is derived of genotypes) its least and its greatest value, alike in all."""
    known = numbers(descriptors)
    return _alike(
        [
            {
                p.column: (p.minimum, p.maximum)
                for p in _described(one)
                if (p.column in known or p in one.derived) and p.minimum is not None and p.maximum is not None
            }
            for one in descriptors
        ]
    )


def scores(descriptors: Sequence[Descriptor]) -> frozenset[str]:
    """What any of the datasets declares to be a score."""
    return frozenset(p.column for one in descriptors for p in one.derived if p.score)


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


def _described(of: Descriptor) -> list[Phenotype]:
    return [*(of.samples.phenotypes if of.samples else ()), *of.derived]


def _alike(of_each: Sequence[Mapping[str, V]]) -> dict[str, V]:
    if not of_each:
        return {}
    return {name: value for name, value in of_each[0].items() if all(each.get(name) == value for each in of_each)}


def _levels(of: Descriptor) -> Mapping[str, tuple[str, ...]]:
    found = {}
    for one in _described(of):
        bins = tuple(f"{low:g}..{high:g}" for low, high in pairwise(one.bins))
        if names := one.levels or bins:
            found[one.column] = names
    if of.samples and of.samples.sex:
        found[of.samples.sex.column] = (of.samples.sex.female, of.samples.sex.male)
    return found
