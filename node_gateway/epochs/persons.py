"""A dataset's people: their ids, one a line, as keyed hashes. The ids themselves are not kept."""

from __future__ import annotations

import hashlib
import hmac
from pathlib import Path

from gdi.kit.jose import SigningKey

MAX_BYTES = 64 * 1024 * 1024
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


def hashed(key: SigningKey, persons: list[str]) -> frozenset[str]:
    """HMAC-SHA-256 (hex) of each id under a key of the node's own, so that the list of ids cannot be tried against the
    database without it. Equal for the same person in all datasets of the node.
    """
    secret = hashlib.sha256(b"gdi person ids\0" + key.pem()).digest()
    return frozenset(hmac.new(secret, person.encode(), hashlib.sha256).hexdigest() for person in persons)
