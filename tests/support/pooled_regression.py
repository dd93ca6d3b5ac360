"""The regression that one gets of the demo's people in one table, by numpy: least squares, or Newton's steps of a
logistic regression (iteratively reweighted least squares). In a process of its own: numpy's OpenBLAS deadlocks where
another thread forks.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from gdi.local_federation import phenotypes
from gdi.local_federation.federation import COHORT

PROJECT = Path(__file__).parents[2]
Matrix = np.ndarray[Any, Any]


def pooled_fit(
    model: str, outcome: str, numbers: Sequence[str], levels: Sequence[tuple[str, str]]
) -> dict[str, list[Any]]:
    """`terms` ([name, level]; the constant first), `beta`, `se`. `levels`: of categories, but for the first of each."""
    question = json.dumps([model, outcome, list(numbers), [list(one) for one in levels]])
    command = [sys.executable, "-m", "tests.support.pooled_regression", question]
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=True, timeout=120)
    found: dict[str, list[Any]] = json.loads(done.stdout)
    return found


def least_squares(x: Matrix, y: Matrix) -> tuple[Matrix, Matrix]:
    """Coefficients and standard errors."""
    beta, (left,), *_ = np.linalg.lstsq(x, y, rcond=None)
    return beta, np.sqrt(left / (len(y) - x.shape[1]) * np.diag(np.linalg.inv(x.T @ x)))


def logistic(x: Matrix, y: Matrix) -> tuple[Matrix, Matrix]:
    """The same, of log odds."""
    beta = np.zeros(x.shape[1])
    for _ in range(50):
        mean = 1 / (1 + np.exp(-x @ beta))
        inverse = np.linalg.inv(x.T @ (x * (mean * (1 - mean))[:, None]))
        step = inverse @ (x.T @ (y - mean))
        beta = beta + step
        if np.abs(step).max() < 1e-12:
            break
    return beta, np.sqrt(np.diag(inverse))


def main() -> None:
    model, outcome, numbers, levels = json.loads(sys.argv[1])
    people = phenotypes.simulate(COHORT)
    columns = [[1.0] * len(people), *([float(getattr(one, name)) for one in people] for name in numbers)]
    columns += [[float(getattr(one, name) == level) for one in people] for name, level in levels]
    x = np.array(columns).T
    if model == "linear":
        beta, se = least_squares(x, np.array([float(getattr(one, outcome)) for one in people]))
    else:
        beta, se = logistic(x, np.array([float(getattr(one, outcome) == "true") for one in people]))
    terms = [["(constant)", ""], *([name, ""] for name in numbers), *levels]
    print(json.dumps({"terms": terms, "beta": beta.tolist(), "se": se.tolist()}))


if __name__ == "__main__":
    main()
