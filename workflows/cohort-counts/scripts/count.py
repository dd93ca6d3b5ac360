"""Counts a dataset's people by categories of the columns asked for, over all of them at once. Standard library only."""

from __future__ import annotations

import argparse
import csv
import hashlib
import json
import sys
from collections import Counter
from itertools import pairwise
from pathlib import Path
from typing import NoReturn

from no_value import NO_VALUE

UNKNOWN = "unknown"
MAX_BYTES = 1024**3


def fail(kind: str, line: int, why: str) -> NoReturn:
    """Says what is wrong, and ends with 1. Nothing of the file's content is said."""
    print(f"{kind} at line {line}: {why}", file=sys.stderr)
    print(f"GDI-ERROR class={kind} line={line}", file=sys.stderr)
    sys.exit(1)


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
    people: dict[str, int] = {}
    counts: Counter[str] = Counter()
    if file.stat().st_size > MAX_BYTES:
        fail("SampleTableError", 1, f"the sample table is larger than {MAX_BYTES} bytes")
    try:
        with file.open(encoding="utf-8-sig", newline="") as handle:
            rows = csv.reader(handle, delimiter="\t", quoting=csv.QUOTE_NONE)
            heading = next(rows, [])
            wanted = [person, *columns]
            if missing := [n for n, name in enumerate(wanted) if heading.count(name) != 1]:
                fail("SampleTableError", 1, f"{len(missing)} of the columns asked for are not in the heading, or twice")
            at = [heading.index(name) for name in wanted]
            for row in rows:
                if not row:
                    continue
                if len(row) != len(heading):
                    fail("SampleTableError", rows.line_num, f"{len(row)} columns instead of {len(heading)}")
                values = [row[i].strip() for i in at]
                who = hashlib.sha256(values[0].encode()).hexdigest()
                if not values[0] or people.setdefault(who, rows.line_num) != rows.line_num:
                    fail("SampleTableError", rows.line_num, "the person has no id, or is there twice")
                levels = [level(v, bins.get(c, [])) for c, v in zip(columns, values[1:], strict=True)]
                counts[json.dumps(levels)] += 1
    except UnicodeDecodeError:
        fail("SampleTableError", 1, "the sample table is not UTF-8")
    except csv.Error:
        fail("SampleTableError", 1, "the sample table is no text separated by tabs")
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
