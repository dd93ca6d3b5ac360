"""Counts a dataset's people by categories of the columns asked for, over all of them at once. Standard library only."""

from __future__ import annotations

import argparse
import json
from collections import Counter
from itertools import pairwise
from pathlib import Path

from cohort_people import Question, columns_of, groups, rows
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


def count(
    file: Path, person: str, columns: list[str], bins: dict[str, list[float]], cohort: Question | None = None
) -> tuple[list[str], Counter[str]]:
    """SHA-256 of each person's id, and people by the JSON list of their categories: of a cohort, or of everybody."""
    people: list[str] = []
    counts: Counter[str] = Counter()
    inside = members(file, cohort) if cohort else None
    for place, (_, who, values) in enumerate(sample_rows(file, person, columns)):
        if inside is not None and place not in inside:
            continue
        people.append(who)
        counts[json.dumps([level(v, bins.get(c, [])) for c, v in zip(columns, values, strict=True)])] += 1
    return sorted(people), counts


def members(file: Path, cohort: Question) -> set[int]:
    """The places of the cohort's people among the table's rows."""
    described = cohort["people"]
    names = list(dict.fromkeys([described["person"], *columns_of(cohort)]))
    return {place for place, of in enumerate(groups(cohort, rows(file, "tsv", names)).values()) if of}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("samples", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--question", required=True, help="JSON: {person, columns, bins}")
    parser.add_argument("--cohort", type=json.loads, help="JSON: whose numbers; everybody's without it")
    options = parser.parse_args()
    question = json.loads(options.question)
    people, counts = count(options.samples, question["person"], question["columns"], question["bins"], options.cohort)
    rows = [[*json.loads(key), n] for key, n in sorted(counts.items())]
    options.out.write_text(json.dumps({"people": people, "rows": rows}) + "\n")


if __name__ == "__main__":
    main()
