"""One round of a logistic regression at one node: sums over people at a broadcast β, and what the node judges them by.
A pure function of the people's file and the broadcast.

With y = 1 for a case and μ = 1 / (1 + exp(-x·β)): log-likelihood Σ y x·β - log(1 + exp(x·β)), gradient Xᵀ(y - μ),
information Xᵀ diag(μ(1 - μ)) X (McCullagh and Nelder, Generalized Linear Models, 2.5 and 4.4).
"""

from __future__ import annotations

import argparse
import json
from itertools import combinations_with_replacement
from pathlib import Path
from typing import Any

import numpy as np
from gather import Vector, facts, fail, largest, shares


def design(question: dict[str, Any], levels: list[list[str]], values: Vector) -> tuple[list[list[str]], Vector]:
    """The columns by name, and people × columns: the constant, numbers, then `COLUMN:LEVEL` of each indicator."""
    columns: list[list[str]] = [[], *([name] for name in question["numbers"])]
    parts = [np.ones(len(values)), *values.T]
    for text in question["indicators"]:
        column, _, level = text.partition(":")
        columns.append([column, level])
        parts.append(cases(text, question["categories"], levels))
    return columns, np.column_stack(parts)


def cases(text: str, categories: list[str], levels: list[list[str]]) -> Vector:
    """1 for who has the level of `COLUMN:LEVEL`, else 0."""
    column, _, level = text.partition(":")
    place = categories.index(column)
    return np.array([float(row[place] == level) for row in levels])


def round_of(
    question: dict[str, Any], levels: list[list[str]], values: Vector, number: int, beta: list[float]
) -> dict[str, Any]:
    """The release. `values`: people × numbers."""
    columns, x = design(question, levels, values)
    if len(beta) != len(columns):
        fail("SampleTableError", "the broadcast has not a number for each column")
    y = cases(question["outcome"], question["categories"], levels)
    predictor = x @ np.array(beta)
    near = np.clip(predictor, -700, 700)
    mean = 1 / (1 + np.exp(-near))
    weights, residuals = mean * (1 - mean), y - mean
    likelihood = y * predictor - np.logaddexp(0, predictor)
    pairs = combinations_with_replacement(range(len(columns)), 2)
    return {
        "format": "gdi-matrix/1",
        "model": "logistic",
        "outcome": question["outcome"],
        **facts(question["numbers"], question["categories"], levels, values),
        "round": {
            "number": number,
            "columns": columns,
            "beta": beta,
            "predictor": float(np.abs(predictor).max()),
            "log_likelihood": float(likelihood.sum()),
            "gradient": [float(one) for one in x.T @ residuals],
            "information": [float((weights * x[:, i] * x[:, j]).sum()) for i, j in pairs],
            "leverage": largest(x * np.sqrt(weights)[:, None]),
            "residuals": [shares(np.abs(residuals * x[:, i])) for i in range(len(columns))],
            "likelihood": shares(np.abs(likelihood)),
        },
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("people", type=Path, help="JSON: {question, levels, values}")
    parser.add_argument("broadcast", type=Path, help='JSON: {number, broadcast: {"beta": []}}')
    parser.add_argument("out", type=Path)
    options = parser.parse_args()
    found, asked = json.loads(options.people.read_text()), json.loads(options.broadcast.read_text())
    beta = [float(one) for one in asked["broadcast"]["beta"]]
    document = round_of(found["question"], found["levels"], np.array(found["values"]), asked["number"], beta)
    options.out.write_text(json.dumps(document, separators=(",", ":")) + "\n")


if __name__ == "__main__":
    main()
