"""A dataset's people as keyed hashes: their ids, one a line, or a sample table. The ids themselves are not kept."""

from __future__ import annotations

import csv
import hashlib
import hmac
from collections.abc import Collection, Hashable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gdi.contracts.descriptor import MAX_LEVEL, Descriptor, level_of
from gdi.kit.jose import SigningKey
from gdi.releases.columns import is_parquet_file
from gdi.releases.disclosure import splits

MAX_BYTES = 64 * 1024 * 1024
MAX_ROWS = 5_000_000  # of a sample table in Parquet
MAX_ID = 200  # characters


class PersonsError(Exception):
    """The list cannot be used; the text names file and line, never an id."""


def read(file: Path) -> list[str]:
    """The ids of a text file, one a line; empty lines do not count. PersonsError where an id is there twice."""
    try:
        if file.stat().st_size > MAX_BYTES:
            raise PersonsError(f"{file} is larger than {MAX_BYTES} bytes")
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise PersonsError(f"{file} cannot be read: {type(error).__name__}") from None
    first: dict[str, int] = {}
    for number, line in enumerate(lines, 1):
        person = line.strip()
        if len(person) > MAX_ID or "\t" in person:
            raise PersonsError(f"{file}, line {number}: an id is one word of at most {MAX_ID} characters")
        if person and first.setdefault(person, number) != number:
            raise PersonsError(f"{file}, line {number}: the person of line {first[person]} is there again")
    if not first:
        raise PersonsError(f"{file} names nobody")
    return list(first)


@dataclass(frozen=True)
class PersonTable:
    """A sample table as an epoch needs it: `people` (ids), ids by part of it, and the names of splits, variable sets
    and tables as the epoch keeps them.
    """

    people: list[str]
    parts: Mapping[str, Collection[str]]
    named: dict[str, Any]


def read_table(file: Path, descriptor: Descriptor, least: int) -> PersonTable:
    """The descriptor's sample table, TSV with a line of columns or Parquet. Levels of fewer than `least` people join
    `other`; people without a value, or with one that the descriptor does not name, are in it too. PersonsError.
    """
    samples = descriptor.samples
    assert samples is not None
    wanted = set(descriptor.splits).union(*descriptor.variable_sets.values(), *descriptor.tables.values())
    rows: dict[str, dict[str, str]] = {}
    for number, row in _lines(file, {samples.person, *wanted}):
        person = row[samples.person].strip()
        if not person or len(person) > MAX_ID:
            raise PersonsError(f"{file}, line {number}: {samples.person} is one word of at most {MAX_ID} characters")
        if rows.setdefault(person, row) is not row:
            raise PersonsError(f"{file}, line {number}: a person is there again")
    if not rows:
        raise PersonsError(f"{file} names nobody")

    def value(column: str, row: Mapping[str, str]) -> str | None:
        text = row[column].strip()
        phenotype = samples.phenotype(column)
        if phenotype is not None and not phenotype.levels and not phenotype.bins:
            return text or None
        return level_of(phenotype, text) if phenotype is not None else text or None

    parts: dict[str, Collection[str]] = {}
    kept: dict[str, list[str]] = {}
    for column in descriptor.splits:
        of: dict[Hashable, str] = {person: value(column, row) or splits.OTHER for person, row in rows.items()}
        found = splits.levels(of, least)
        if any(len(level) > MAX_LEVEL for level in found):
            raise PersonsError(f"{file}: a value of {column} has more than {MAX_LEVEL} characters: no run can name it")
        kept[column] = sorted(found)
        parts |= {f"{column}={level}": {str(person) for person in who} for level, who in found.items()}
    for kind, sets in (("variables", descriptor.variable_sets), ("table", descriptor.tables)):
        for name, columns in sets.items():
            complete = [p for p, row in rows.items() if all(value(column, row) is not None for column in columns)]
            parts[f"{kind}:{name}"] = complete
    names = {"splits": kept, "variables": sorted(descriptor.variable_sets), "tables": sorted(descriptor.tables)}
    return PersonTable(list(rows), parts, names)


def column(file: Path, name: str) -> list[str]:
    """One column of a sample table. PersonsError."""
    return [row[name].strip() for _, row in _lines(file, {name})]


def _lines(file: Path, columns: set[str]) -> Iterator[tuple[int, dict[str, str]]]:
    """(number, values by column) of each row, of TSV or Parquet."""
    try:
        if file.stat().st_size > MAX_BYTES:
            raise PersonsError(f"{file} is larger than {MAX_BYTES} bytes")
        if is_parquet_file(file):
            yield from _parquet(file, columns)
            return
        with file.open(encoding="utf-8", newline="") as opened:
            reader = csv.DictReader(opened, delimiter="\t", strict=True)
            missing = sorted(columns - set(reader.fieldnames or ()))
            if missing:
                raise PersonsError(f"{file} lacks the columns {', '.join(missing)}, which the descriptor names")
            for row in reader:
                if None in row or None in row.values():
                    raise PersonsError(f"{file}, line {reader.line_num}: it has not as many fields as the first line")
                yield reader.line_num, row
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise PersonsError(f"{file} cannot be read: {type(error).__name__}") from None


def _parquet(file: Path, columns: set[str]) -> Iterator[tuple[int, dict[str, str]]]:
    """The columns as TSV would have them: numbers as they are written, `true` and `false`, nothing for null."""
    import polars as pl  # half a second, for who has such a table

    try:
        schema = pl.read_parquet_schema(file)
        if missing := sorted(columns - set(schema)):
            raise PersonsError(f"{file} lacks the columns {', '.join(missing)}, which the descriptor names")
        if nested := sorted(name for name in columns if schema[name].is_nested() or schema[name] == pl.Binary):
            raise PersonsError(f"{file}: {', '.join(nested)} have no plain values")
        frame = pl.scan_parquet(file).select(pl.col(sorted(columns)).cast(pl.String)).head(MAX_ROWS + 1).collect()
    except pl.exceptions.PolarsError as error:
        raise PersonsError(f"{file} cannot be read: {type(error).__name__}") from None
    if frame.height > MAX_ROWS:
        raise PersonsError(f"{file} has more than {MAX_ROWS} rows")
    for number, row in enumerate(frame.iter_rows(named=True), 1):
        yield number, {name: "" if value is None else str(value) for name, value in row.items()}


def place(key: SigningKey, dataset: str, person: str) -> str:
    """Where a person stands when some must leave with others: a keyed hash, so that nobody can choose."""
    secret = hashlib.sha256(b"gdi companions\0" + key.pem()).digest()
    return hmac.new(secret, f"{dataset}\0{person}".encode(), hashlib.sha256).hexdigest()


def hashed(key: SigningKey, persons: Collection[str]) -> frozenset[str]:
    """HMAC-SHA-256 (hex) of each id under a key of the node's own, so that the list of ids cannot be tried against the
    database without it. Equal for the same person in all datasets of the node.
    """
    secret = hashlib.sha256(b"gdi person ids\0" + key.pem()).digest()
    return frozenset(hmac.new(secret, person.encode(), hashlib.sha256).hexdigest() for person in persons)
