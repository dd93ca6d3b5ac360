"""Adds the datasets' counts up and writes the release `gdi-table/1`: one table for the columns asked for. The same
person in two datasets would count twice: that ends the run.
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
    counts: Counter[str] = Counter()
    people: set[str] = set()
    for file in files:
        found = json.loads(file.read_text())
        if not people.isdisjoint(found["people"]):
            raise ValueError(file.stem)
        people.update(found["people"])
        for *levels, n in found["rows"]:
            counts[json.dumps(levels)] += n
    rows = [[*json.loads(key), n] for key, n in sorted(counts.items())]
    return {"format": "gdi-table/1", "tables": [{"name": "people", "columns": columns, "rows": rows}]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("files", type=Path, nargs="+")
    parser.add_argument("--columns", required=True, help="JSON: the columns asked for")
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
