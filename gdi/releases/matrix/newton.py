"""The centre's step of a logistic regression in rounds (Newton-Raphson), and what a node holds a broadcast against. No
part serves rounds yet (decision 854).

At β the nodes' sums add up: log-likelihood, gradient Xᵀ(y - μ), information Xᵀ diag(μ(1 - μ)) X. A step that lowered
the likelihood is halved, and none is longer than the last, so that a node can hold each broadcast against the last.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction

from gdi.releases.matrix.least_squares import eliminate

CLOSE = 1e-9  # the largest change of a coefficient, by its size, in the last step
MOST_PREDICTOR = 15.0  # |x·β| of a person: beyond it a person's weight is below 1e-6
SLACK = 1 + 1e-9
Vector = tuple[float, ...]


@dataclass(frozen=True)
class LogisticSums:
    """What a node answers at β. `information`: p × p."""

    people: int
    log_likelihood: float
    gradient: Vector
    information: tuple[Vector, ...]


@dataclass(frozen=True)
class NewtonState:
    """`beta`: the broadcast of the round `number`; `before`: of the last one, whose log-likelihood was
    `log_likelihood`. `step`: how long the last step was (Euclid), None before the first.
    """

    beta: Vector
    number: int = 1
    before: Vector | None = None
    log_likelihood: float | None = None
    step: float | None = None
    errors: Vector = ()
    done: bool = False

    def to_json(self) -> bytes:
        """As it is kept: a number is itself again when it is read."""
        return json.dumps(vars(self), separators=(",", ":")).encode()


def from_json(data: bytes) -> NewtonState:
    found = json.loads(data)
    vectors = {name: tuple(found[name]) for name in ("beta", "errors")}
    return NewtonState(**found | vectors | {"before": None if found["before"] is None else tuple(found["before"])})


def added(answers: Iterable[LogisticSums]) -> LogisticSums:
    """Of disjoint people, whatever the order of the nodes."""
    each = list(answers)
    size = range(len(each[0].gradient))
    information = tuple(tuple(math.fsum(one.information[i][j] for one in each) for j in size) for i in size)
    return LogisticSums(
        sum(one.people for one in each),
        math.fsum(one.log_likelihood for one in each),
        tuple(math.fsum(one.gradient[i] for one in each) for i in size),
        information,
    )


def advance(state: NewtonState, sums: LogisticSums) -> NewtonState:
    """The state after a round: another broadcast, or the end with standard errors. A pure function, so that a centre
    that was killed asks the same again. ValueError where a column follows from the others, or people are separated.
    """
    before, known = state.before, state.log_likelihood
    if before is not None and known is not None and sums.log_likelihood < known - 1e-9 * abs(known):
        middle = tuple((a + b) / 2 for a, b in zip(before, state.beta, strict=True))
        return replace(state, beta=middle, number=state.number + 1, step=(state.step or 0.0) / 2)
    inverse = inverted(sums.information)
    step = [math.fsum(a * g for a, g in zip(row, sums.gradient, strict=True)) for row in inverse]
    length = math.hypot(*step)
    errors = tuple(math.sqrt(row[i]) for i, row in enumerate(inverse))
    if all(abs(change) <= CLOSE * (1 + abs(b)) for change, b in zip(step, state.beta, strict=True)):
        return replace(state, log_likelihood=sums.log_likelihood, errors=errors, done=True)
    if state.step is not None and length > state.step:
        step = [change * state.step / length for change in step]
        length = state.step
    beta = tuple(b + change for b, change in zip(state.beta, step, strict=True))
    return NewtonState(beta, state.number + 1, state.beta, sums.log_likelihood, length)


def inverted(matrix: Sequence[Sequence[float]]) -> list[list[float]]:
    """Of a symmetric positive matrix, in fractions. ValueError where it has none, or a number is not finite."""
    if not all(math.isfinite(value) for row in matrix for value in row):
        raise ValueError("a sum is not finite")
    size = len(matrix)
    rows = [[*map(Fraction, matrix[i]), *(Fraction(int(i == j)) for j in range(size))] for i in range(size)]
    if len(eliminate(rows)) < size:
        raise ValueError("a column follows from the others, or the people are separated")
    return [[float(value) for value in row[size:]] for row in rows]


def equations(columns: int, rounds: int) -> int:
    """What a reader learns in so many rounds, in numbers."""
    return rounds * (columns + columns * (columns + 1) // 2)


def longer(earlier: Sequence[Vector], beta: Vector) -> bool:
    """At the node: whether the step to `beta` is longer than the last; of the first two broadcasts none is."""
    if len(earlier) < 2:
        return False
    return math.dist(earlier[-1], beta) > math.dist(earlier[-2], earlier[-1]) * SLACK


def extreme(people: Iterable[Sequence[float]], beta: Vector) -> bool:
    """At the node, in the task that sees the people: whether anybody's |x·β| is above MOST_PREDICTOR."""
    return any(abs(math.fsum(a * b for a, b in zip(x, beta, strict=True))) > MOST_PREDICTOR for x in people)
