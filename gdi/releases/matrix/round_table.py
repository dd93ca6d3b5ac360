"""What a file of the kind `matrix` says of one round of a logistic regression: sums at a broadcast β, and what the node
needs to judge them by. It stands beside the file's people, sums and products, which are those of β = 0.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from itertools import combinations_with_replacement
from typing import Annotated

from pydantic import Field

from gdi.contracts.rounds import MAX_ROUNDS
from gdi.kit.models import Frozen
from gdi.releases.cross_table.table import COLUMN, MAX_LEVEL
from gdi.releases.disclosure.sums import MAX_LARGEST, expect_shares

MAX_TERMS = 40
MAX_BITS = 40  # of a sum with twelve digits
OUTCOME = rf"^{COLUMN}:.{{1,{MAX_LEVEL}}}$"  # a column and the category of the cases
Finite = Annotated[float, Field(allow_inf_nan=False)]
Shares = Annotated[tuple[Finite, ...], Field(max_length=MAX_LARGEST)]
Term = Annotated[tuple[Annotated[str, Field(min_length=1, max_length=MAX_LEVEL)], ...], Field(max_length=2)]
"""A column: nothing is the constant 1, one name a number, two a column and its category."""


class LogisticRound(Frozen):
    """Sums over people x with outcome y (1 for a case) at `beta`, of μ = 1 / (1 + exp(-x·β)): `log_likelihood`,
    `gradient` Xᵀ(y - μ), `information` Xᵀ diag(μ(1 - μ)) X by `places_of`. `columns`: of x, the constant first, then
    every number of the file, then categories. `predictor`: the largest |x·β| of a person. `leverage`: the sum of the 1,
    2, … largest leverages of diag(√(μ(1 - μ))) X, at most 1. `residuals`: by column, which part of the sum of |(y - μ)
    x| the 1, 2, … people have who have most of it; `likelihood`: the same of the log-likelihood.
    """

    number: int = Field(ge=1, le=MAX_ROUNDS)
    columns: tuple[Term, ...] = Field(min_length=2, max_length=MAX_TERMS)
    beta: tuple[Finite, ...] = Field(max_length=MAX_TERMS)
    predictor: float = Field(ge=0, allow_inf_nan=False)
    log_likelihood: float = Field(le=0, allow_inf_nan=False)
    gradient: tuple[Finite, ...] = Field(max_length=MAX_TERMS)
    information: tuple[Finite, ...] = Field(max_length=MAX_TERMS * (MAX_TERMS + 1) // 2)
    leverage: Shares
    residuals: tuple[Shares, ...] = Field(max_length=MAX_TERMS)
    likelihood: Shares

    @property
    def equations(self) -> int:
        """What a reader learns, in numbers: p, p (p + 1) / 2, and the log-likelihood."""
        p = len(self.columns)
        return p + p * (p + 1) // 2 + 1

    @property
    def bits(self) -> int:
        """What a reader who knows numbers and outcome learns of who is in a category: every sum has it in its μ."""
        return MAX_BITS * self.equations if any(len(column) == 2 for column in self.columns) else 0

    def sums(self) -> dict[str, float]:
        """All that leaves, by place."""
        found = {"l": self.log_likelihood} | {f"g{i}": value for i, value in enumerate(self.gradient)}
        return found | {
            f"{i},{j}": value for (i, j), value in zip(places_of(len(self.columns)), self.information, strict=True)
        }

    def name(self, outcome: str) -> str:
        """Of the outcome and these columns, whatever β is."""
        return hashlib.sha256(json.dumps([outcome, self.columns]).encode()).hexdigest()[:32]

    def name_of_beta(self, outcome: str) -> str:
        return hashlib.sha256(json.dumps([outcome, self.columns, self.beta]).encode()).hexdigest()[:32]


def places_of(columns: int) -> list[tuple[int, int]]:
    return list(combinations_with_replacement(range(columns), 2))


def expect_whole(fit: LogisticRound, numbers: Sequence[str], people: int) -> None:
    """ValueError where it does not go with itself, or with the file's numbers and people."""
    p, columns = len(fit.columns), fit.columns
    if len(set(columns)) != p or columns[0] != () or {one[0] for one in columns if len(one) == 1} != set(numbers):
        raise ValueError("columns must be the constant, every number, and categories, each once")
    if sorted(columns, key=len) != list(columns):
        raise ValueError("columns must be the constant, then numbers, then categories")
    if not len(fit.beta) == len(fit.gradient) == len(fit.residuals) == p:
        raise ValueError("beta, gradient and residuals must have one for each column")
    if len(fit.information) != p * (p + 1) // 2:
        raise ValueError("information must have one for each two columns")
    for shares in (fit.leverage, fit.likelihood, *fit.residuals):
        expect_shares(shares, people)
    if any(part < n / people - 1e-6 for n, part in enumerate(fit.leverage, 1)):
        raise ValueError("leverage is less than that of a constant")
    diagonal = [value for (i, j), value in zip(places_of(p), fit.information, strict=True) if i == j]
    if min(diagonal) < 0 or not 0 < diagonal[0] <= people / 4 * (1 + 1e-9):
        raise ValueError("information has a weight below zero or above a quarter")
    if abs(fit.gradient[0]) > people:
        raise ValueError("gradient is more than people")
