"""The store's interface and its keys. All calls block; a key is a path of plain names below the store's root.

A file comes whole (`put`), or in chunks over any time and through any replica (`upload`, `append`, `complete`): what
lies under its key is always whole and was proven by its SHA-256, and nothing of a torn upload is ever seen there.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import IO, Protocol

from gdi.contracts.ids import NODE_ID, RELEASE_NAME, RUN_ID, SHA256, matches

RELEASES, ANSWERS = "releases", "answers"
CHUNK = 8 * 1024 * 1024  # bytes of a chunk at most
TORN_AFTER = 7 * 86_400.0  # seconds without a chunk, after which an upload is torn and swept
PART = ".part"
_KEY = re.compile(r"(?:[A-Za-z0-9][A-Za-z0-9._-]{0,199}/){0,12}[A-Za-z0-9][A-Za-z0-9._-]{0,199}")


class StoreAwayError(Exception):
    """The store does not answer, or not rightly; the message names no key and no secret. It may pass."""


class NothingStoredError(Exception):
    """There is nothing whole under that key."""


class TooManyBytesError(Exception):
    """It has more bytes than the caller takes."""


class WrongHashError(Exception):
    """What arrived is not what its SHA-256 says; nothing of it stays."""


class WrongChunkError(Exception):
    """A chunk that this store cannot take: the message says which it takes."""


class WrongOffsetError(Exception):
    """The chunk is not the next one; `offset` is how many bytes there are."""

    def __init__(self, offset: int) -> None:
        super().__init__(f"{offset} bytes are here")
        self.offset = offset


@dataclass(frozen=True)
class Upload:
    """How much of a file is here, in bytes; `complete`: whole and proven."""

    offset: int
    complete: bool


class ResultStore(Protocol):
    def upload(self, key: str) -> Upload:
        """How much of it is here. StoreAwayError, as all of them."""

    def append(self, key: str, chunk: IO[bytes], *, offset: int, size: int, last: bool) -> None:
        """The next `size` bytes. WrongOffsetError, WrongChunkError."""

    def complete(self, key: str, sha256: str) -> None:
        """What was appended is all of it. Does nothing where it is complete. WrongHashError, NothingStoredError."""

    def put(self, key: str, source: IO[bytes]) -> None:
        """A whole file; one that is there is replaced at once."""

    def fetch(self, key: str, into: IO[bytes], limit: int) -> str:
        """Its bytes in pieces; the SHA-256 of what was written, in hex. NothingStoredError, TooManyBytesError."""

    def usage(self, prefix: str) -> tuple[int, int]:
        """(files, bytes) below a prefix that ends in a slash, unfinished uploads among them."""

    def sweep(self, before: float) -> int:
        """Aborts uploads that had no chunk since `before` (seconds since the epoch); how many."""


def release_key(run: str, node: str, name: str, sha256: str) -> str:
    """Where a node's release lies. ValueError for names that are none."""
    words = ((RUN_ID, run), (NODE_ID, node), (RELEASE_NAME, name), (SHA256, sha256))
    if not all(matches(pattern, word) for pattern, word in words):
        raise ValueError("not the names of a run, a node, a release and its checksum")
    return f"{RELEASES}/{run}/{node}/{name}-{sha256}"


def checked(key: str) -> str:
    """The key itself. ValueError where it is no path of plain names."""
    if not _KEY.fullmatch(key) or key.endswith(PART):
        raise ValueError("not a key of the store")
    return key
