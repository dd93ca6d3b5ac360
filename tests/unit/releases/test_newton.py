"""Logistic regression in rounds over three nodes: Newton's of the pooled people, whatever is killed in between."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gdi.releases.matrix.newton import (
    LogisticSums,
    NewtonState,
    added,
    advance,
    equations,
    extreme,
    from_json,
    inverted,
    longer,
)

Array = np.ndarray[Any, Any]


def simulated(seed: int, people: int, columns: int) -> tuple[Array, Array]:
    random = np.random.default_rng(seed)
    x = np.column_stack([np.ones(people), random.normal(0, 1, (people, columns - 1))])
    chance = 1 / (1 + np.exp(-(x @ random.normal(0, 0.7, columns))))
    return x, (random.random(people) < chance).astype(float)


def sums(x: Array, y: Array, beta: tuple[float, ...]) -> LogisticSums:
    """What a node would answer."""
    eta = x @ np.array(beta)
    mu = 1 / (1 + np.exp(-eta))
    information = x.T @ (x * (mu * (1 - mu))[:, None])
    likelihood = float((y * eta - np.logaddexp(0, eta)).sum())
    return LogisticSums(len(y), likelihood, tuple(x.T @ (y - mu)), tuple(map(tuple, information)))


def pooled(x: Array, y: Array) -> tuple[Array, Array]:
    """Iteratively reweighted least squares of numpy, and its standard errors."""
    beta = np.zeros(x.shape[1])
    for _ in range(50):
        mu = 1 / (1 + np.exp(-x @ beta))
        weight = mu * (1 - mu)
        beta = np.linalg.lstsq(
            x * np.sqrt(weight)[:, None], ((x @ beta) * weight + y - mu) / np.sqrt(weight), rcond=None
        )[0]
    return beta, np.sqrt(np.diag(np.linalg.inv(x.T @ (x * weight[:, None]))))


def fit(x: Array, y: Array, nodes: int, kill: bool) -> tuple[NewtonState, list[tuple[float, ...]]]:
    state, broadcasts = NewtonState((0.0,) * x.shape[1]), list[tuple[float, ...]]()
    while not state.done:
        assert not longer(broadcasts, state.beta) and not extreme(x, state.beta) and state.number < 40
        broadcasts.append(state.beta)
        answers = [sums(x[n::nodes], y[n::nodes], state.beta) for n in range(nodes)]
        state = advance(from_json(state.to_json()) if kill else state, added(answers))
    return state, broadcasts


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 2**32), st.integers(2, 6))
def test_three_nodes_end_where_the_pooled_people_do_and_every_broadcast_passes(seed: int, columns: int) -> None:
    x, y = simulated(seed, 600, columns)
    state, broadcasts = fit(x, y, 3, kill=False)
    beta, errors = pooled(x, y)
    assert np.allclose(state.beta, beta, rtol=1e-6, atol=1e-8) and np.allclose(state.errors, errors, rtol=1e-6)
    again = fit(x, y, 3, kill=True)
    assert again == (state, broadcasts), "a centre that was killed in every round asks the same"
    assert len(broadcasts) <= 12 and equations(columns, len(broadcasts)) <= 12 * (
        columns + columns * (columns + 1) // 2
    )


def test_a_step_that_lowers_the_likelihood_is_halved() -> None:
    x, y = simulated(3, 400, 3)
    away = NewtonState(
        (0.0, 4.0, -4.0), 2, (0.0, 0.0, 0.0), sums(x, y, (0.0, 0.0, 0.0)).log_likelihood, math.hypot(4, 4)
    )
    half = advance(away, sums(x, y, away.beta))
    assert half.beta == (0.0, 2.0, -2.0) and half.step == pytest.approx(math.hypot(2, 2)) and half.number == 3
    assert not longer([(0.0, 0.0, 0.0), away.beta], half.beta)


def test_a_column_that_follows_from_others_and_separated_people_end_the_fit() -> None:
    x, y = simulated(4, 300, 3)
    with pytest.raises(ValueError, match="follows from the others"):
        fit(np.column_stack([x, x[:, 1] * 2]), y, 2, kill=False)
    x[:, 1] = np.where(y > 0, 1.0, -1.0)
    with pytest.raises((ValueError, AssertionError)):
        fit(x, y, 2, kill=False)


@pytest.mark.parametrize("number", [math.inf, -math.inf, math.nan])
def test_a_sum_that_is_not_finite_has_no_inverse(number: float) -> None:
    with pytest.raises(ValueError, match="not finite"):
        inverted([[1.0, 0.0], [0.0, number]])


def test_a_node_refuses_a_longer_step_and_a_predictor_out_of_bounds() -> None:
    assert not longer([], (9.0, 9.0)) and not longer([(0.0, 0.0)], (9.0, 9.0))
    assert longer([(0.0, 0.0), (1.0, 0.0)], (1.0, 1.1)) and not longer([(0.0, 0.0), (1.0, 0.0)], (1.0, 1.0))
    assert extreme([(1.0, 2.0), (1.0, 8.0)], (0.0, 2.0)) and not extreme([(1.0, 7.5)], (0.0, 2.0))
