"""Reads a dataset's sample table: the people who are complete for all columns asked for. Standard library only."""

from __future__ import annotations

import argparse
import csv
import hashlib
import json
import math
import sys
from pathlib import Path
from typing import Any, NoReturn

MAX_BYTES = 1024**3
NO_VALUE = frozenset(
    (
        "",
        ".",
        "NA",
        "<NA>",
        "#NA",
        "N/A",
        "n/a",
        "#N/A",
        "#N/A N/A",
        "NaN",
        "-NaN",
        "nan",
        "-nan",
        "NULL",
        "null",
        "None",
    )
)
"""As pandas, R and spreadsheets write that there is no value; `none` may be a category."""


def fail(kind: str, line: int, why: str) -> NoReturn:
    """Says what is wrong, and ends with 1. Nothing of the file's content is said."""
    print(f"{kind} at line {line}: {why}", file=sys.stderr)
    print(f"GDI-ERROR class={kind} line={line}", file=sys.stderr)
    sys.exit(1)


def number(text: str, line: int) -> float:
    try:
        found = float(text)
    except ValueError:
        found = math.inf
    if not math.isfinite(found) or "_" in text:
        fail("SampleTableError", line, "a column that is regressed as a number has a value that is none")
    return found


def read(file: Path, person: str, numbers: list[str], categories: list[str]) -> dict[str, Any]:
    """`people`: SHA-256 of each person's id, complete or not; `levels` and `values` of the complete ones."""
    people: dict[str, int] = {}
    found: dict[str, list[Any]] = {"levels": [], "values": []}
    if file.stat().st_size > MAX_BYTES:
        fail("SampleTableError", 1, f"the sample table is larger than {MAX_BYTES} bytes")
    try:
        with file.open(encoding="utf-8-sig", newline="") as handle:
            rows = csv.reader(handle, delimiter="\t", quoting=csv.QUOTE_NONE)
            heading = next(rows, [])
            wanted = [person, *categories, *numbers]
            if missing := [n for n, name in enumerate(wanted) if heading.count(name) != 1]:
                fail("SampleTableError", 1, f"{len(missing)} of the columns asked for are not in the heading, or twice")
            at = [heading.index(name) for name in wanted]
            for row in rows:
                if not row:
                    continue
                if len(row) != len(heading):
                    fail("SampleTableError", rows.line_num, f"{len(row)} columns instead of {len(heading)}")
                who, *texts = [row[i].strip() for i in at]
                key = hashlib.sha256(who.encode()).hexdigest()
                if not who or people.setdefault(key, rows.line_num) != rows.line_num:
                    fail("SampleTableError", rows.line_num, "the person has no id, or is there twice")
                if NO_VALUE.isdisjoint(texts):
                    found["levels"].append(texts[: len(categories)])
                    found["values"].append([number(text, rows.line_num) for text in texts[len(categories) :]])
    except UnicodeDecodeError:
        fail("SampleTableError", 1, "the sample table is not UTF-8")
    except csv.Error:
        fail("SampleTableError", 1, "the sample table is no text separated by tabs")
    return {"people": sorted(people), **found}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("samples", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--question", required=True, help="JSON: {person, outcome, numbers, categories}")
    options = parser.parse_args()
    question = json.loads(options.question)
    numbers = [question["outcome"], *question["numbers"]]
    if len({*numbers, *question["categories"]}) < len(numbers) + len(question["categories"]):
        fail("SampleTableError", 1, "a column is asked for twice: as outcome, number or category")
    found = read(options.samples, question["person"], numbers, question["categories"])
    options.out.write_text(json.dumps(found) + "\n")


if __name__ == "__main__":
    main()
