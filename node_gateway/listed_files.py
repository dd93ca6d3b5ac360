"""The archive's listing of a dataset: which of its files a path means, and whether an answer is that file.

The public download API finds a file of a path by an unanchored pattern: with `a.c4gh` and `a.c4gh.2019.c4gh` in one
dataset it may send the other one. So a file is asked for by its id, and what comes is held against the listing.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from email.utils import parsedate_to_datetime
from typing import Any

SEGMENT, SEALED = 65536, 28  # Crypt4GH: bytes of data in a segment, and nonce with authentication code beside them
_HEX = re.compile(r"[0-9a-f]{32,128}")
_PATTERN = re.compile(r"[\\^$*+?()\[\]{}|]")


@dataclass(frozen=True)
class Listed:
    """A file as the archive lists it: size in bytes after decryption, last change in epoch seconds where it says so.
    `id` and `checksum` (hex, of the decrypted file) are empty where it does not say them.
    """

    path: str
    size: int
    mtime: float | None
    id: str = ""
    checksum: str = ""

    @classmethod
    def of(cls, file: dict[str, Any]) -> Listed:
        size, file_id = file.get("decryptedFileSize"), file.get("fileId")
        stamp = next((file[k] for k in ("lastModified", "fileLastModified", "mtime") if file.get(k) is not None), None)
        mtime = float(stamp) if isinstance(stamp, (int, float)) else http_date(str(stamp or ""))
        checksum = str(file.get("decryptedFileChecksum") or "").lower()
        return cls(
            file["filePath"],
            size if isinstance(size, int) and size >= 0 else 0,
            mtime,
            file_id if isinstance(file_id, str) else "",
            checksum if _HEX.fullmatch(checksum) else "",
        )


class SamePathError(Exception):
    """Two files of the dataset have one path; the text names both."""


class Files:
    """All files of a dataset as the archive lists them."""

    def __init__(self, dataset: str, files: Iterable[Listed]) -> None:
        self._dataset = dataset
        self._by_name: dict[str, list[Listed]] = {}
        for file in files:
            self._by_name.setdefault(self._name(file.path).removesuffix(".c4gh"), []).append(file)

    def all(self) -> list[Listed]:
        """Each with its path below the dataset."""
        return [replace(file, path=self._name(file.path)) for same in self._by_name.values() for file in same]

    def of_path(self, path: str) -> Listed | None:
        """The file of that very path, or else without its `.c4gh`. SamePathError where there are two."""
        alike = self._by_name.get(self._name(path).removesuffix(".c4gh"), [])
        found = [f for f in alike if self._name(f.path) == path] or alike
        if len(found) > 1:
            names = " and ".join(f"{f.id or 'a file without id'} ({f.path})" for f in found[:2])
            raise SamePathError(f"{path} is the path of {len(found)} files of {self._dataset}: {names}")
        return found[0] if found else None

    def may_be_another(self, listed: Listed) -> bool:
        """Whether an archive that takes a path for an unanchored pattern could send another file instead of this."""
        name = self._name(listed.path).removesuffix(".c4gh")
        others = (f for files in self._by_name.values() for f in files if f is not listed)
        return bool(_PATTERN.search(name)) or any(name in f.path for f in others)

    def _name(self, path: str) -> str:
        """Archives list a file with or without the dataset before it."""
        return path.removeprefix("/").removeprefix(f"{self._dataset}/")


def why_another(listed: Listed, headers: dict[str, str], header_length: int | None, packets: int) -> str:
    """Why an answer is not the listed file; empty where nothing speaks against it. A header of one packet has no edit
    list, so the length tells exactly.
    """
    etag = headers.get("etag", "").removeprefix("W/").strip('"').lower()
    if listed.checksum and len(etag) == len(listed.checksum) and _HEX.fullmatch(etag) and etag != listed.checksum:
        return "its checksum is not the one that the archive lists"
    length = headers.get("content-length", "")
    if header_length is None or not length.isdecimal() or listed.size <= 0:
        return ""
    more = int(length) - sealed(listed.size) - header_length
    if more < 0:
        return f"{-more} bytes are missing"
    return f"it has {more} bytes more than the archive lists" if more and packets == 1 else ""


def sealed(size: int) -> int:
    """Bytes of Crypt4GH's segments for `size` bytes of data."""
    whole, rest = divmod(size, SEGMENT)
    return whole * (SEGMENT + SEALED) + (rest + SEALED if rest else 0)


def http_date(text: str) -> float | None:
    try:
        return parsedate_to_datetime(text).timestamp()
    except (TypeError, ValueError):
        return None
