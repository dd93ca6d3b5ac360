"""What a Parquet file would unpack to, by its footer and the headers of its pages (Apache Parquet's format, Thrift's
compact protocol), before anything is unpacked: a small file may claim to be far more than a process has memory for.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import IO, Any

MAGIC = b"PAR1"
MAX_FOOTER = 64 * 1024**2  # bytes
MAX_GROUP_ROWS = 1_048_576
MAX_GROUP_BYTES = 256 * 1024**2  # unpacked, of all columns of a group of rows
MAX_HEADER = 64 * 1024  # bytes of a page's header, which may hold its least and its greatest value
MAX_DEPTH = 16


class UnfitParquetError(Exception):
    """It cannot be walked, or it would unpack to more than is looked at."""


class _Thrift:
    """Structs as dicts by the number of the field. ValueError where the bytes are none."""

    def __init__(self, data: bytes) -> None:
        self.data, self.at = data, 0

    def _byte(self) -> int:
        if self.at >= len(self.data):
            raise ValueError("the struct ends too early")
        self.at += 1
        return self.data[self.at - 1]

    def _varint(self) -> int:
        found = shift = 0
        while True:
            byte = self._byte()
            found |= (byte & 0x7F) << shift
            if byte < 0x80:
                return found
            shift += 7
            if shift > 63:
                raise ValueError("a number is too long")

    def _int(self) -> int:
        number = self._varint()
        return (number >> 1) ^ -(number & 1)

    def _skip(self, count: int) -> None:
        if count > len(self.data) - self.at:
            raise ValueError("the struct ends too early")
        self.at += count

    def struct(self, depth: int = 0) -> dict[int, Any]:
        if depth > MAX_DEPTH:
            raise ValueError("structs are too deep")
        found: dict[int, Any] = {}
        field = 0
        while head := self._byte():
            field = field + (head >> 4) if head >> 4 else self._int()
            found[field] = self._value(head & 15, depth)
        return found

    def _value(self, kind: int, depth: int, *, listed: bool = False) -> Any:  # a number, a list or a struct
        if kind in (1, 2):
            return self._byte() == 1 if listed else kind == 1
        if kind == 3:
            return self._byte()
        if kind in (4, 5, 6):
            return self._int()
        if kind == 7:
            return self._skip(8)
        if kind == 8:
            return self._skip(self._varint())
        if kind in (9, 10):
            head = self._byte()
            count = head >> 4 if head >> 4 < 15 else self._varint()
            if count > len(self.data) - self.at:
                raise ValueError("a list is too long")
            return [self._value(head & 15, depth + 1, listed=True) for _ in range(count)]
        if kind == 12:
            return self.struct(depth + 1)
        raise ValueError("a field is of no type that Parquet has")


def look(file: Path) -> None:
    """UnfitParquetError where a group of rows has too many rows, or would unpack to too many bytes."""
    try:
        with file.open("rb") as opened:
            size = opened.seek(0, os.SEEK_END)
            opened.seek(max(0, size - 8))
            tail = opened.read(8)
            length = int.from_bytes(tail[:4], "little")
            if tail[4:] != MAGIC or length > min(MAX_FOOTER, size - 12):
                raise ValueError("it has no footer")
            opened.seek(size - 8 - length)
            for group in _Thrift(opened.read(length)).struct()[4]:
                _group(opened, group, size)
    except (KeyError, TypeError, ValueError, OSError, IndexError) as error:
        raise UnfitParquetError("it is no Parquet file that can be read") from error


def _group(file: IO[bytes], group: dict[int, Any], size: int) -> None:
    if not 0 <= group[3] <= MAX_GROUP_ROWS:
        raise UnfitParquetError(f"a group has more than {MAX_GROUP_ROWS} rows")
    left = MAX_GROUP_BYTES
    for column in group[1]:
        about = column[3]
        at = min(start for start in (about[9], about.get(11) or about[9]) if start > 0)
        end = at + about[7]
        if not 4 <= at <= end <= size:
            raise ValueError("a column lies outside the file")
        while at < end:
            file.seek(at)
            header = _Thrift(file.read(min(MAX_HEADER, end - at)))
            page = header.struct()
            if min(page[2], page[3]) < 0:
                raise ValueError("a page has less than no bytes")
            left -= page[2]
            if left < 0:
                raise UnfitParquetError(f"a group unpacks to more than {MAX_GROUP_BYTES} bytes")
            at += header.at + page[3]
