"""Puts the datasets' people into the bins of each measure and writes the release `gdi-table/1`, a table for each. The
same person in two datasets would count twice: that ends the run.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from itertools import pairwise
from pathlib import Path
from typing import Any

FEMALE_F, MALE_F, LEAST_X = 0.2, 0.8, 50  # PLINK's --check-sex; sites of X below which nobody is told apart
UNKNOWN, MEASURES = "unknown", ("missingness", "heterozygosity", "inbreeding", "titv", "sex_check")


def level(value: float | None, edges: list[float]) -> str:
    """Its bin `LOW..HIGH`: with its lower edge, without its upper one but for the last."""
    for low, high in pairwise(edges):
        if value is not None and (low <= value < high or value == high == edges[-1]):
            return f"{low:g}..{high:g}"
    return UNKNOWN


def ratio(part: float, whole: float) -> float | None:
    return part / whole if whole else None


def measures(person: dict[str, float], sex: str) -> dict[str, float | str | None]:
    """What is told of a person, before it is put into bins."""
    called, expected = person["called"], person["expected"]
    return {
        "missingness": ratio(person["missing"], person["sites"]),
        "heterozygosity": ratio(called - person["homozygous"], called),
        "inbreeding": ratio(person["homozygous"] - expected, called - expected),
        "titv": ratio(person["transitions"], person["transversions"]),
        "sex_check": sex_check(person, sex),
    }


def sex_check(person: dict[str, float], sex: str) -> str:
    """Whether F on X agrees with the sample table."""
    x_called, x_expected = person["x_called"], person["x_expected"]
    f = ratio(person["x_homozygous"] - x_expected, x_called - x_expected)
    if x_called < LEAST_X or f is None or sex not in ("female", "male") or FEMALE_F <= f <= MALE_F:
        return "unclear"
    return "agrees" if (f < FEMALE_F) == (sex == "female") else "differs"


def gather(files: list[Path], bins: dict[str, list[float]], wanted: list[str]) -> dict[str, Any]:
    """The release. ValueError where two datasets have the same person."""
    counts: dict[str, Counter[str]] = {name: Counter() for name in wanted}
    people: set[str] = set()
    for file in files:
        found = json.loads(file.read_text())
        if not people.isdisjoint(found["people"]):
            raise ValueError(file.stem)
        people.update(found["people"])
        numbers = {name: values for name, values in found.items() if name not in ("people", "sex")}
        for place, sex in enumerate(found["sex"]):
            of = measures({name: values[place] for name, values in numbers.items()}, sex)
            for name in wanted:
                value = of[name]
                counts[name][value if isinstance(value, str) else level(value, bins.get(name, []))] += 1
    tables = [
        {
            "name": name.replace("_", "-"),
            "columns": [name],
            "rows": [[one, n] for one, n in sorted(counts[name].items())],
        }
        for name in wanted
    ]
    return {"format": "gdi-table/1", "tables": tables}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("files", type=Path, nargs="+")
    parser.add_argument("--bins", required=True, help="JSON: edges by measure")
    parser.add_argument("--measures", required=True, help="JSON: which of them")
    options = parser.parse_args()
    try:
        release = gather(options.files, json.loads(options.bins), json.loads(options.measures))
    except ValueError as error:
        print(f"duplicate-people: people of {error} are in another dataset of the run as well", file=sys.stderr)
        print("GDI-ERROR class=DuplicatePeople", file=sys.stderr)
        sys.exit(1)
    options.out.write_text(json.dumps(release, separators=(",", ":")) + "\n")


if __name__ == "__main__":
    main()
