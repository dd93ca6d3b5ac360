"""The nodes' rounds put together: sums of disjoint people add up, and those of the last round give coefficients."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from gdi.contracts.rounds import MAX_ROUNDS
from gdi.releases.disclosure.sums import MAX_LARGEST
from gdi.releases.matrix.least_squares import Estimate
from gdi.releases.matrix.newton import LogisticSums, added, inverted
from gdi.releases.matrix.round_table import MAX_TERMS, OUTCOME, Finite, Term, places_of

CONVERGED = 1e-6  # of a coefficient, by its size: the largest step after which it counts as found
QUANTILE = 1.959963984540054  # of the normal distribution, 0.975
Entry = tuple[Term, Term, Finite]
Numbers = Annotated[tuple[Finite, ...], Field(max_length=MAX_TERMS)]


class ReleasedRound(BaseModel):
    """A node's release of a round (`gdi-matrix-released/1`): its sums at `beta`."""

    model_config = ConfigDict(extra="ignore", frozen=True)
    format: str = Field(pattern=r"^gdi-matrix-released/1$")
    model: Literal["logistic"]
    outcome: str = Field(pattern=OUTCOME, max_length=300)
    people: int = Field(ge=MAX_LARGEST, le=2**53)
    round: int = Field(ge=1, le=MAX_ROUNDS)
    columns: tuple[Term, ...] = Field(min_length=2, max_length=MAX_TERMS)
    beta: Numbers
    withheld: dict[str, int] = Field(default_factory=dict, max_length=10)
    log_likelihood: Finite = Field(le=0)
    gradient: Numbers
    entries: tuple[Entry, ...] = Field(max_length=MAX_TERMS * (MAX_TERMS + 1) // 2)

    @model_validator(mode="after")
    def _whole(self) -> Self:
        wanted = [(self.columns[i], self.columns[j]) for i, j in places_of(len(self.columns))]
        if [(a, b) for a, b, _ in self.entries] != wanted or len(set(self.columns)) != len(self.columns):
            raise ValueError("entries must have one for every two columns, in order")
        if not len(self.beta) == len(self.gradient) == len(self.columns):
            raise ValueError("beta and gradient must have one for each column")
        return self

    @property
    def sums(self) -> LogisticSums:
        p = len(self.columns)
        square = [[0.0] * p for _ in range(p)]
        for (i, j), (_, _, value) in zip(places_of(p), self.entries, strict=True):
            square[i][j] = square[j][i] = value
        return LogisticSums(self.people, self.log_likelihood, self.gradient, tuple(map(tuple, square)))


def alike(rounds: Sequence[ReleasedRound]) -> bool:
    """Whether they are of one outcome, of the same columns, and of one β."""
    return len({(one.outcome, one.columns, one.beta) for one in rounds}) == 1


def estimates(rounds: Sequence[ReleasedRound]) -> tuple[list[Estimate], bool] | None:
    """The coefficients by column, with Wald's errors, and whether the rounds came to an end: by one more of Newton's
    steps, which is none where they did. None where a column follows from the others.
    """
    total = added(one.sums for one in rounds)
    try:
        inverse = inverted(total.information)
    except ValueError:
        return None
    found, ended = [], True
    for beta, row, place in zip(rounds[0].beta, inverse, range(len(inverse)), strict=True):
        step = math.fsum(a * g for a, g in zip(row, total.gradient, strict=True))
        ended = ended and abs(step) <= CONVERGED * (1 + abs(beta))
        se = math.sqrt(row[place])
        z = (beta + step) / se
        found.append(
            Estimate(beta + step, se, z, minus_log10_p(z), *(beta + step + q * se for q in (-QUANTILE, QUANTILE)))
        )
    return found, ended


def minus_log10_p(z: float) -> float:
    """-log10 of the two-sided P of the normal distribution. Beyond 30 by its asymptotic series (Abramowitz and Stegun,
    26.2.12), exact to 1e-6 there.
    """
    size = abs(z)
    if size < 30:
        return max(0.0, -math.log10(math.erfc(size / math.sqrt(2))))
    log = -size * size / 2 - math.log(size * math.sqrt(2 * math.pi)) + math.log1p(-1 / size**2 + 3 / size**4)
    return -(log + math.log(2)) / math.log(10)
