"""Adds the people of a node's datasets up into the release `gdi-matrix/1`: sums of numbers over everybody and over each
category, sums of products, and what the node judges them by; of a logistic model the sums at β = 0, and the people for
further rounds. The same person in two datasets would count twice: that ends the run.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from itertools import combinations_with_replacement
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

LARGEST = 50  # people of whom is told which part of a sum they have
DEPENDENT = 1e-13  # of a combination of columns: what twelve digits of its sums cannot show
Vector = np.ndarray[Any, Any]


def fail(kind: str, why: str) -> NoReturn:
    print(why, file=sys.stderr)
    print(f"GDI-ERROR class={kind}", file=sys.stderr)
    sys.exit(1)


def shares(parts: Vector) -> list[float]:
    """Which part of the sum the 1, 2, … people have who have most of it."""
    total = float(parts.sum())
    most = np.sort(np.partition(parts, -LARGEST)[-LARGEST:] if len(parts) > LARGEST else parts)[::-1].cumsum()
    return [min(1.0, float(one) / total) if total else 0.0 for one in most]


def away(values: Vector) -> Vector:
    """Who has another value than the commonest."""
    found, counts = np.unique(values, return_counts=True)
    return np.asarray(values != found[counts.argmax()])


def step_of(values: Vector) -> float | None:
    """1, 0.1, … of which all values are whole multiples; None where they have more than six decimals."""
    for decimals in range(7):
        scaled = values * 10.0**decimals
        if np.abs(scaled).max() < 1e12 and np.abs(scaled - np.rint(scaled)).max() <= 1e-6:
            return float(10.0**-decimals)
    return None


def number_sum(name: str, values: Vector, group: tuple[str, str] | None) -> dict[str, Any]:
    return {
        "number": name,
        "category": group[0] if group else None,
        "level": group[1] if group else None,
        "people": len(values),
        "sum": float(values.sum()),
        "sums": shares(np.abs(values)),
        "squares": shares((values - values.mean()) ** 2),
        "apart": int(away(values).sum()),
        "values": len(np.unique(values)),
    }


def leverages(design: Vector) -> list[float]:
    """The sum of the 1, 2, … largest leverages, at most 1: no so many people have a larger part of any column, or of
    any combination of columns, since the largest eigenvalue of their block of the hat matrix is at most its trace.
    `design`: people × columns, the first one constant.
    """
    return largest(design - design.mean(axis=0) * (np.arange(design.shape[1]) > 0))


def largest(design: Vector) -> list[float]:
    """The same of a design as it is."""
    sizes = np.sqrt((design**2).sum(axis=0))
    left, sizes, _ = np.linalg.svd(design[:, sizes > 0] / sizes[sizes > 0], full_matrices=False)
    each = np.sort((left[:, sizes > DEPENDENT * sizes[0]] ** 2).sum(axis=1))[::-1][:LARGEST]
    return [min(1.0, float(one)) for one in each.cumsum()]


def release(
    outcome: str, numbers: list[str], categories: list[str], levels: list[list[str]], values: Vector
) -> dict[str, Any]:
    """`levels`: of each person, of each category; `values`: people × (outcome, then `numbers`), float64."""
    head = {"format": "gdi-matrix/1", "model": "linear", "outcome": outcome}
    return head | facts([outcome, *numbers], categories, levels, values)


def facts(names: list[str], categories: list[str], levels: list[list[str]], values: Vector) -> dict[str, Any]:
    """What a release says of people and of sums, `values`: people × `names`."""
    columns = [np.array([row[i] for row in levels], dtype=object) for i in range(len(categories))]
    groups = [(c, level) for c, column in zip(categories, columns, strict=True) for level in sorted(set(column))]
    members = {group: columns[categories.index(group[0])] == group[1] for group in groups}
    sums, products = [], []
    for i, name in enumerate(names):
        sums.append(number_sum(name, values[:, i], None))
        sums += [number_sum(name, values[members[group], i], group) for group in groups]
    middle, others = values - values.mean(axis=0), [away(values[:, i]) for i in range(len(names))]
    for i, j in combinations_with_replacement(range(len(names)), 2):
        products.append(
            {
                "numbers": [names[i], names[j]],
                "sum": float((values[:, i] * values[:, j]).sum()),
                "products": shares(np.abs(middle[:, i] * middle[:, j])),
                "apart": int((others[i] & others[j]).sum()),
            }
        )
    design = np.column_stack([np.ones(len(values)), values, *(members[g] for g in groups)]).astype(float)
    steps = {name: step for i, name in enumerate(names) if (step := step_of(values[:, i])) is not None}
    counts = Counter(map(tuple, levels)) if categories else Counter({(): len(values)})
    return {
        "numbers": names,
        "categories": categories,
        "people": [[*key, n] for key, n in sorted(counts.items())],
        "steps": steps,
        "leverage": leverages(design),
        "sums": sums,
        "products": products,
    }


def gather(files: list[Path]) -> tuple[list[list[str]], Vector]:
    """Levels and values of all people. Ends with 1 where two datasets have the same person, or nobody is complete."""
    people: set[str] = set()
    levels: list[list[str]] = []
    values: list[list[float]] = []
    for file in files:
        found = json.loads(file.read_text())
        if not people.isdisjoint(found["people"]):
            fail(
                "DuplicatePeople", f"duplicate-people: people of {file.stem} are in another dataset of the run as well"
            )
        people.update(found["people"])
        levels += found["levels"]
        values += found["values"]
    if not values:
        fail("SampleTableError", "nobody has a value in all of the columns asked for")
    return levels, np.array(values)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("files", type=Path, nargs="+")
    parser.add_argument("--question", required=True, help="JSON: {model, outcome, numbers, indicators, categories}")
    parser.add_argument("--people", type=Path, help="where the people go, for rounds")
    options = parser.parse_args()
    question = json.loads(options.question)
    levels, values = gather(options.files)
    if options.people is None:
        found = release(question["outcome"], question["numbers"], question["categories"], levels, values)
    else:
        from fit_round import round_of  # which needs this file

        beta = [0.0] * (1 + len(question["numbers"]) + len(question["indicators"]))
        found = round_of(question, levels, values, 1, beta)
        people = {"question": question, "levels": levels, "values": values.tolist()}
        options.people.write_text(json.dumps(people) + "\n")
    options.out.write_text(json.dumps(found, separators=(",", ":")) + "\n")


if __name__ == "__main__":
    main()
