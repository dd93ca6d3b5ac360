"""Counts a dataset's people by categories of the columns asked for, over all of them at once. Standard library only."""

from __future__ import annotations

import argparse
import json
from collections import Counter
from itertools import pairwise
from pathlib import Path

from no_value import NO_VALUE
from sample_rows import sample_rows

UNKNOWN = "unknown"


def level(value: str, edges: list[float]) -> str:
    """The category of a value; of a number its bin `LOW..HIGH`: with its lower edge, without its upper one but for the
    last.
    """
    if value in NO_VALUE:
        return UNKNOWN
    if not edges:
        return value
    try:
        number = float(value)
    except ValueError:
        return UNKNOWN
    for low, high in pairwise(edges):
        if low <= number < high or number == high == edges[-1]:
            return f"{low:g}..{high:g}"
    return UNKNOWN


def count(file: Path, person: str, columns: list[str], bins: dict[str, list[float]]) -> tuple[list[str], Counter[str]]:
    """SHA-256 of each person's id, and people by the JSON list of their categories."""
    people: list[str] = []
    counts: Counter[str] = Counter()
    for _, who, values in sample_rows(file, person, columns):
        people.append(who)
        counts[json.dumps([level(v, bins.get(c, [])) for c, v in zip(columns, values, strict=True)])] += 1
    return sorted(people), counts


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("samples", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--question", required=True, help="JSON: {person, columns, bins}")
    options = parser.parse_args()
    question = json.loads(options.question)
    people, counts = count(options.samples, question["person"], question["columns"], question["bins"])
    rows = [[*json.loads(key), n] for key, n in sorted(counts.items())]
    options.out.write_text(json.dumps({"people": people, "rows": rows}) + "\n")


if __name__ == "__main__":
    main()
