"""Reads a dataset's sample table: the people who are complete for all columns asked for. Standard library only."""

from __future__ import annotations

import argparse
import json
import math
from pathlib import Path
from typing import Any

from no_value import NO_VALUE
from sample_rows import fail, sample_rows


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
    people: list[str] = []
    found: dict[str, list[Any]] = {"levels": [], "values": []}
    for line, who, texts in sample_rows(file, person, [*categories, *numbers]):
        people.append(who)
        if NO_VALUE.isdisjoint(texts):
            found["levels"].append(texts[: len(categories)])
            found["values"].append([number(text, line) for text in texts[len(categories) :]])
    return {"people": sorted(people), **found}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("samples", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--question", required=True, help="JSON: {person, model, outcome, numbers, categories}")
    options = parser.parse_args()
    question = json.loads(options.question)
    numbers = [*([question["outcome"]] if question["model"] == "linear" else []), *question["numbers"]]
    if len({*numbers, *question["categories"]}) < len(numbers) + len(question["categories"]):
        fail("SampleTableError", 1, "a column is asked for twice: as outcome, number or category")
    found = read(options.samples, question["person"], numbers, question["categories"])
    options.out.write_text(json.dumps(found) + "\n")


if __name__ == "__main__":
    main()
