"""Parts: what cohorts share and do not share. People are cut into disjoint parts by the cohorts that they are in; from
published counts of cohorts a reader can compute the count of every union of parts that lies in their linear span.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache

MAX_COHORTS = 10
"""Of one cell, the new one included; where more left, the new cell is an interval."""


@dataclass(frozen=True)
class CohortPart:
    """People who are in the same cohorts. `cohorts`: a bit for each cohort that they are in; `people`: how many."""

    cohorts: int
    people: int


@dataclass(frozen=True)
class Union:
    """A union of parts whose count a reader can compute: the sum of `weights[i]` times the count of cohort i."""

    parts: frozenset[int]  # numbers of the parts
    weights: tuple[Fraction, ...]  # one for each cohort

    def of(self, counts: Sequence[int]) -> int:
        """The union's count, of the cohorts' counts."""
        total = sum((weight * count for weight, count in zip(self.weights, counts, strict=True)), Fraction(0))
        return int(total)


def cut(cohorts: Sequence[AbstractSet[Hashable]]) -> list[CohortPart]:
    """The disjoint parts of all people of these cohorts, in a fixed order."""
    bits: dict[Hashable, int] = {}
    for number, people in enumerate(cohorts):
        for person in people:
            bits[person] = bits.get(person, 0) | 1 << number
    sizes: dict[int, int] = {}
    for mask in bits.values():
        sizes[mask] = sizes.get(mask, 0) + 1
    return [CohortPart(mask, sizes[mask]) for mask in sorted(sizes)]


def computable(cohorts: Sequence[AbstractSet[Hashable]]) -> list[Union]:
    """Every non-empty union of parts whose count follows from the counts of these cohorts. ValueError where there are
    more than MAX_COHORTS.
    """
    if len(cohorts) > MAX_COHORTS:
        raise ValueError(f"more than {MAX_COHORTS} cohorts")
    return list(_unions(tuple(part.cohorts for part in cut(cohorts)), len(cohorts)))


@lru_cache(maxsize=4096)
def _unions(masks: tuple[int, ...], cohorts: int) -> tuple[Union, ...]:
    """Row i of the matrix says which parts cohort i has. A 0/1 vector of its row space is fixed by its entries at the
    pivots, so that 2^rank candidates are all there are.
    """
    rows = [[Fraction(mask >> i & 1) for mask in masks] for i in range(cohorts)]
    weights = [[Fraction(int(i == j)) for j in range(cohorts)] for i in range(cohorts)]
    rank = _reduce(rows, weights)
    found: list[Union] = []
    vector, weight = [Fraction(0)] * len(masks), [Fraction(0)] * cohorts
    chosen = 0
    for step in range(1, 1 << rank):  # a Gray code: one row comes or goes at each step
        row = (step & -step).bit_length() - 1
        chosen ^= 1 << row
        sign = 1 if chosen >> row & 1 else -1
        vector = [a + sign * b for a, b in zip(vector, rows[row], strict=True)]
        weight = [a + sign * b for a, b in zip(weight, weights[row], strict=True)]
        if all(entry in (0, 1) for entry in vector):
            found.append(Union(frozenset(i for i, entry in enumerate(vector) if entry), tuple(weight)))
    return tuple(found)


def _reduce(rows: list[list[Fraction]], weights: list[list[Fraction]]) -> int:
    """Brings `rows` to reduced row echelon form, `weights` with them. The rank."""
    rank = 0
    for column in range(len(rows[0]) if rows else 0):
        pivot = next((i for i in range(rank, len(rows)) if rows[i][column]), None)
        if pivot is None:
            continue
        for table in (rows, weights):
            table[rank], table[pivot] = table[pivot], table[rank]
        scale = rows[rank][column]
        for table in (rows, weights):
            table[rank] = [entry / scale for entry in table[rank]]
        for i in range(len(rows)):
            if i != rank and (factor := rows[i][column]):
                for table in (rows, weights):
                    table[i] = [a - factor * b for a, b in zip(table[i], table[rank], strict=True)]
        rank += 1
    return rank


def too_small(cohorts: Sequence[AbstractSet[Hashable]], least: int) -> list[tuple[frozenset[int], int]]:
    """Parts that are neither empty nor `least` people: (the numbers of the cohorts that they are in, people)."""
    members = [(frozenset(i for i in range(len(cohorts)) if part.cohorts >> i & 1), part) for part in cut(cohorts)]
    return [(inside, part.people) for inside, part in members if 0 < part.people < least]


def bounds(
    known: Iterable[tuple[AbstractSet[Hashable], int]], new: AbstractSet[Hashable], most: int
) -> tuple[int, int] | None:
    """An interval that holds for the count of the cohort `new`, of counts that left (`known`): the nearest of them,
    widened by `most` for each person that the two do not share. None where nothing left.
    """
    best: tuple[int, int] | None = None
    for cohort, count in known:
        low, high = max(0, count - most * len(cohort - new)), count + most * len(new - cohort)
        if best is None or high - low < best[1] - best[0]:
            best = low, high
    return best
