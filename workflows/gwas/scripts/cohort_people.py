"""Who of a sample table is of which level of a split, or complete for some columns: as the node's operator opened the
epoch (`node_gateway/epochs/persons.py`). Each workflow that analyses a cohort carries this file, equal byte for byte.
"""

from __future__ import annotations

import csv
import math
import sys
from collections.abc import Iterable, Iterator, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any, NoReturn

OTHER = "other"  # the level of small levels together, and of people without a value
Question = dict[str, Any]  # `cohort` and `people` as the node tells them, `levels` of the dataset, `all` of the run


def wrong(kind: str, why: str) -> NoReturn:
    """Ends with 1. Nothing of the table's content is told."""
    print(why, file=sys.stderr)
    print(f"GDI-ERROR class={kind}", file=sys.stderr)
    sys.exit(1)


def rows(file: Path, kind: str, columns: list[str]) -> Iterator[Mapping[str, str]]:
    """The table's rows as texts, empty where there is nothing."""
    if kind == "parquet":
        import polars

        lacking = set(columns) - set(polars.read_parquet_schema(file))
        if not lacking:
            frame = polars.read_parquet(file, columns=columns).cast(polars.String).fill_null("")
            yield from frame.iter_rows(named=True)
            return
    else:
        with file.open(encoding="utf-8", newline="") as opened:
            reader = csv.DictReader(opened, delimiter="\t", restval="")
            lacking = set(columns) - set(reader.fieldnames or ())
            if not lacking:
                yield from reader
                return
    wrong("SampleTableError", f"the sample table lacks {len(lacking)} of the columns that its descriptor names")


def level_of(phenotype: Mapping[str, Any], value: str) -> str | None:
    """The category or bin of a value; None where it has none (`gdi.contracts.descriptor.level_of`)."""
    categories, bins = phenotype.get("categories") or [], phenotype.get("bins") or []
    if phenotype["type"] == "boolean" and not categories:
        categories, value = ["false", "true"], value.lower()
    if categories:
        return value if value in categories else None
    if not bins:
        return value or None
    try:
        number = float(value)
    except ValueError:
        return None
    if not math.isfinite(number):
        return None
    last = len(bins) - 2
    for place, (low, high) in enumerate(pairwise(bins)):
        if low <= number < high or (place == last and number == high):
            return f"{low:g}..{high:g}"
    return None


def groups(question: Question, table: Iterable[Mapping[str, str]]) -> dict[str, list[int]]:
    """In which groups each person is. By level: one, by its place among all levels of the run."""
    people, cohort = question["people"], question["cohort"]
    phenotypes = {one["column"]: one for one in people.get("phenotypes") or []}

    def value(row: Mapping[str, str], column: str) -> str | None:
        text = row[column].strip()
        return level_of(phenotypes[column], text) if column in phenotypes else text or None

    found: dict[str, list[int]] = {}
    for row in table:
        person = row[people["person"]].strip()
        if person in found:
            wrong("SampleTableError", "a person is in the sample table twice")
        if "split" in cohort:
            level = value(row, cohort["split"]) or OTHER
            level = level if level in question["levels"] else OTHER
            found[person] = [question["all"].index(level)] if level in question["levels"] else []
        else:
            complete = all(value(row, column) is not None for column in columns_of(question))
            found[person] = [0] if complete else []
    return found


def columns_of(question: Question) -> list[str]:
    cohort, people = question["cohort"], question["people"]
    if "split" in cohort:
        return [cohort["split"]]
    kind, name = ("variable_sets", "variables") if "variables" in cohort else ("tables", "table")
    return list(people[kind][cohort[name]])
