"""Looks whether two datasets of the run have the same people: they would count twice."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("files", type=Path, nargs="+")
    options = parser.parse_args()
    seen: set[str] = set()
    datasets: dict[str, set[str]] = {}  # the files of one have the same people: DATASET.NUMBER.json
    for file in options.files:
        people = set(json.loads(file.read_text())["people"])
        name, dot, number = file.stem.rpartition(".")
        dataset = name if dot and number.isdigit() else file.stem
        if dataset in datasets:
            if datasets[dataset] != people:
                print(f"different-people: the files of {dataset} have other samples", file=sys.stderr)
                print("GDI-ERROR class=DifferentPeople", file=sys.stderr)
                sys.exit(1)
            continue
        datasets[dataset] = people
        if not seen.isdisjoint(people):
            print(f"duplicate-people: samples of {file.stem} have the names of another dataset's", file=sys.stderr)
            print("GDI-ERROR class=DuplicatePeople", file=sys.stderr)
            sys.exit(1)
        seen |= people
    options.out.write_text(json.dumps({"people": len(seen)}) + "\n")


if __name__ == "__main__":
    main()
