"""Adds the people of a node's datasets up into the release `gdi-matrix/1`: sums of numbers over everybody and over each
category, sums of products, and what the node judges them by; of a logistic model the sums at β = 0, and the people for
further rounds. The same person in two datasets would count twice: that ends the run.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections import Counter
from itertools import combinations_with_replacement
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

LARGEST = 50  # people of whom is told which part of a sum they have
DEPENDENT = 1e-13  # of a combination of columns: what twelve digits of its sums cannot show
MODULI = [int(times * 10**power) for power in range(1, 12) for times in (1, 2, 2.5, 3, 4, 5, 6, 7, 8, 9)]  # units
BITS, SOME_BITS = 40.0, 3.0  # of a sum; of a remainder that is more than even or odd
DRAWS, PARTS = 300, (0.95, 0.999)  # of combinations of columns; of a sum of squares
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


def odd(values: Vector) -> list[tuple[int, float]]:
    """Of each of MODULI by which not all have the same remainder: how many people have another than the commonest, of
    whom alone a sum's remainder is, and how many bits that has.
    """
    found, step = [], step_of(values)
    units = 10.0 ** min(9, 15 - math.ceil(math.log10(max(1.0, float(np.abs(values).max())))))
    whole = np.rint(values * units).astype(np.int64)
    for modulus in (one for one in MODULI if one <= np.ptp(whole)):
        if others := len(values) - int(np.unique(whole % modulus, return_counts=True)[1].max()):
            found.append((others, min(BITS, math.log2(modulus / units / step)) if step else BITS))
    return found


def fewest_odd(values: Vector, bits: float = 0.0) -> int:
    """Of remainders of at least so many bits; 0 where there is none."""
    return min((people for people, of in odd(values) if of >= bits), default=0)


def arrangements(values: Vector) -> float:
    """log2 of in how many ways people can have these values."""
    _, counts = np.unique(values, return_counts=True)
    return (math.lgamma(len(values) + 1) - sum(math.lgamma(int(one) + 1) for one in counts)) / math.log(2)


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
        "odd": fewest_odd(values, SOME_BITS if group else 0.0),
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
    each = np.sort((basis(design[:, sizes > 0] / sizes[sizes > 0]) ** 2).sum(axis=1))[::-1][:LARGEST]
    return [min(1.0, float(one)) for one in each.cumsum()]


def basis(columns: Vector) -> Vector:
    """Columns of length 1, at right angles, of which the given ones are combinations."""
    left, sizes, _ = np.linalg.svd(columns, full_matrices=False)
    return np.asarray(left[:, sizes > DEPENDENT * sizes[0]])


def support(values: Vector, members: list[Vector]) -> list[int]:
    """The fewest people who have each of PARTS of the sum of squares of a combination of columns with a number in it;
    for the last part also those who alone have a number's last digits, by as much more as these have fewer than BITS.
    Combinations that are 0 for most people are found as those that are 0 for a few drawn at random: DRAWS of them, with
    somebody of each category among the few. `values`: people × numbers; `members`: of each category, who is in it.
    """
    n, random = len(values), np.random.default_rng(862)
    varying = values[:, np.ptp(values, axis=0) > 0]
    scaled = (varying - varying.mean(axis=0)) / (varying.std(axis=0) + (varying.shape[1] == 0))
    inside = [np.flatnonzero(one) for one in members]
    categories = basis(np.column_stack([np.ones(n), *members]).astype(float))
    columns = basis(np.column_stack([categories, scaled]))
    combinations = [scaled - np.median(scaled, axis=0)]
    for _ in range(DRAWS if columns.shape[1] > categories.shape[1] else 0):
        some = [int(random.choice(one)) for one in inside]
        rows = dict.fromkeys([*some, *map(int, random.integers(n, size=2 * columns.shape[1]))])
        few = columns[list(rows)[: columns.shape[1] - 1]]
        combinations.append((columns @ np.linalg.svd(few, full_matrices=True)[2][-1])[:, None])
    tried = np.hstack(combinations)
    own = np.linalg.norm(tried - categories @ (categories.T @ tried), axis=0)
    tried = tried[:, own >= 1e-6 * np.linalg.norm(tried, axis=0)]  # who is in categories is told as a table
    squares = np.sort(tried**2, axis=0)[::-1].cumsum(axis=0)
    found = [int((squares < part * squares[-1]).sum(axis=0).min(initial=n - 1)) + 1 for part in PARTS]
    digits = [people * BITS / max(1.0, bits) for column in values.T for people, bits in odd(column)]
    return [*found[:-1], min(found[-1], *map(math.ceil, digits))] if digits else found


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
                "odd": fewest_odd(values[:, i] * values[:, j], SOME_BITS),
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
        "arrangements": {name: arrangements(values[:, i]) for i, name in enumerate(names)},
        "leverage": leverages(design),
        "support": support(values, list(members.values())),
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
