"""Reads a sample table, text separated by tabs: a line for each person, each person once. Standard library only. Each
workflow that reads one this way carries this file, equal byte for byte.
"""

from __future__ import annotations

import csv
import hashlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

MAX_BYTES = 1024**3


def fail(kind: str, line: int, why: str) -> NoReturn:
    """Says what is wrong, and ends with 1. Nothing of the file's content is said."""
    print(f"{kind} at line {line}: {why}", file=sys.stderr)
    print(f"GDI-ERROR class={kind} line={line}", file=sys.stderr)
    sys.exit(1)


def sample_rows(file: Path, person: str, columns: list[str]) -> Iterator[tuple[int, str, list[str]]]:
    """Of each person the line, the SHA-256 of the id, and the values of the columns."""
    people: dict[str, int] = {}
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
                who, *values = [row[i].strip() for i in at]
                key = hashlib.sha256(who.encode()).hexdigest()
                if not who or people.setdefault(key, rows.line_num) != rows.line_num:
                    fail("SampleTableError", rows.line_num, "the person has no id, or is there twice")
                yield rows.line_num, key, values
    except UnicodeDecodeError:
        fail("SampleTableError", 1, "the sample table is not UTF-8")
    except csv.Error:
        fail("SampleTableError", 1, "the sample table is no text separated by tabs")
