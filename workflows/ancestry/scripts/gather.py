"""Counts people by cluster (and a column of the sample table) over the datasets and writes the release `gdi-table/1`.
The same person in two datasets would count twice: that ends the run.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from pathlib import Path
from typing import Any


def gather(files: list[Path], columns: list[str]) -> dict[str, Any]:
    """The release. ValueError where two datasets have the same person."""
    people: set[str] = set()
    counts: Counter[tuple[str, ...]] = Counter()
    for file in files:
        found = json.loads(file.read_text())
        if not people.isdisjoint(found["people"]):
            raise ValueError(file.stem)
        people.update(found["people"])
        counts.update(map(tuple, found["rows"]))
    rows = [[*levels, n] for levels, n in sorted(counts.items())]
    tables = [{"name": "ancestry", "columns": ["ancestry_cluster", *columns], "rows": rows}]
    return {"format": "gdi-table/1", "tables": tables}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("files", type=Path, nargs="+")
    parser.add_argument("--columns", required=True, help="JSON: of the sample table")
    options = parser.parse_args()
    try:
        release = gather(options.files, json.loads(options.columns))
    except ValueError as error:
        print(f"duplicate-people: people of {error} are in another dataset of the run as well", file=sys.stderr)
        print("GDI-ERROR class=DuplicatePeople", file=sys.stderr)
        sys.exit(1)
    options.out.write_text(json.dumps(release, separators=(",", ":")) + "\n")


if __name__ == "__main__":
    main()
