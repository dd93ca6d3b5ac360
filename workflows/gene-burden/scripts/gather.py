"""Puts the datasets' genes into one file, in order: each gene once, by fixed effects (inverse variance), with the
counts added up. The same person in two datasets would count twice: that ends the run.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

COUNTS = [4, 5, 6, 7, 8, 9, 13, 14, 15]  # columns that are people
FREQUENCY, BETA, SE = 10, 11, 12


def pooled(rows: list[list[str]]) -> list[str]:
    """One line of a gene's lines."""
    if len(rows) == 1:
        return rows[0]
    out = list(rows[0])
    for at in COUNTS:
        out[at] = str(sum(int(row[at]) for row in rows))
    weights = [1 / float(row[SE]) ** 2 for row in rows]
    out[FREQUENCY] = f"{int(out[6]) / int(out[4]):.8g}"
    out[BETA] = f"{sum(w * float(row[BETA]) for w, row in zip(weights, rows, strict=True)) / sum(weights):.8g}"
    out[SE] = f"{sum(weights) ** -0.5:.8g}"
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("files", type=Path, nargs="+")
    options = parser.parse_args()
    people: set[str] = set()
    genes: dict[tuple[str, ...], list[list[str]]] = {}
    said: list[dict[str, Any]] = []
    heading = ""
    for file in options.files:
        with file.open() as lines:
            about = json.loads(lines.readline()[1:])
            names = about.pop("names")
            if not people.isdisjoint(names):
                print(f"duplicate-people: people of {file.stem} are in another dataset of the run too", file=sys.stderr)
                print("GDI-ERROR class=DuplicatePeople", file=sys.stderr)
                sys.exit(1)
            people.update(names)
            said.append(about)
            heading = lines.readline()
            for line in lines:
                row = line.rstrip("\n").split("\t")
                genes.setdefault(tuple(row[:4]), []).append(row)
    about = said[0] | {name: sum(one[name] for one in said) for name in ("people", "cases")}
    with options.out.open("w") as out:
        out.write("#" + json.dumps(about, separators=(",", ":"), sort_keys=True) + "\n" + heading)
        for key in sorted(genes, key=lambda key: (key[0], int(key[1]))):
            out.write("\t".join(pooled(genes[key])) + "\n")


if __name__ == "__main__":
    main()
