"""Splits the records 0..n-1 into as many ranges of nearly equal length as were asked for; some are empty where there
are few records. Before that it looks whether another dataset of the run has the same people: they would count twice.
"""

from __future__ import annotations

import argparse
import json
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any


def split(records: int, regions: int) -> list[list[int]]:
    """`[first, end)` of each region, in order, together all records."""
    edges = [records * i // regions for i in range(regions + 1)]
    return [[a, b] for a, b in pairwise(edges)]


def place(places: list[list[int]], record: int) -> list[int] | None:
    """Where the last known record before this one, or this one, begins: (record, line, piece, skip)."""
    return max((place for place in places if place[0] <= record), default=None)


def twice(own: Path, all_of_them: list[Path]) -> list[str]:
    """Files of other datasets that have a person of this one. A dataset's files are named `DATASET.NUMBER.json`."""
    people = set(_read(own)["people"])
    others = [file for file in all_of_them if file != own and dataset_of(file) != dataset_of(own)]
    return [file.stem for file in others if not people.isdisjoint(_read(file)["people"])]


def differing(own: Path, all_of_them: list[Path]) -> list[str]:
    """Files of the same dataset that do not have the same people: a site of one would be counted for others."""
    people = _read(own)["people"]
    same = [file for file in all_of_them if file != own and dataset_of(file) == dataset_of(own)]
    return [file.stem for file in same if _read(file)["people"] != people]


def dataset_of(file: Path) -> str:
    name, dot, number = file.stem.rpartition(".")
    return name if dot and number.isdigit() else file.stem


def _read(file: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(file.read_text())
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("validated", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--regions", type=int, required=True)
    parser.add_argument("--datasets", type=Path, nargs="*", default=[], help="what `validate` wrote of all datasets")
    options = parser.parse_args()
    if others := twice(options.validated, options.datasets):
        print(
            f"duplicate-people: samples of {options.validated.stem} have the same names in {', '.join(others)}: their"
            " people would count twice. Start a run for each dataset, or give different people different names.",
            file=sys.stderr,
        )
        print("GDI-ERROR class=DuplicatePeople", file=sys.stderr)
        sys.exit(1)
    if others := differing(options.validated, options.datasets):
        print(f"different-people: {options.validated.stem} and {', '.join(others)} are one dataset's", file=sys.stderr)
        print("GDI-ERROR class=DifferentPeople", file=sys.stderr)
        sys.exit(1)
    validated = _read(options.validated)
    regions = split(int(validated["records"]), options.regions)
    places = [place(validated["places"], first) for first, _ in regions]
    found = {"samples": len(validated["people"]), "regions": regions, "places": places}
    options.out.write_text(json.dumps(found) + "\n")


if __name__ == "__main__":
    main()
