"""Reads one section of a bgzip file (`sections.py`): block by block, each checked, from a line's beginning to a line's
end. Standard library only.
"""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator
from pathlib import Path

from vcf import BGZIP_END, Place, VcfError, split

HEAD, CHECKS = 18, 8  # bytes of a block before and behind its packed data
MAGIC = BGZIP_END[:4]


class WrongIndex(Exception):
    """The section does not begin or end where a line does."""


class SectionFile:
    """As a binary file, which `vcf.split` reads. `place` is of `sections.plan`; numbers of bytes. gzip.BadGzipFile and
    zlib.error where a block is damaged, EOFError where the last block is not whole.
    """

    def __init__(self, path: Path, place: dict[str, int | None]) -> None:
        self._file = path.open("rb")
        self._file.seek(place["start"] or 0)
        self._skip, self._length, self._tail = place["skip"] or 0, place["length"], place["tail"] or 0
        self._at, self._last, self._ended = 0, b"\n", False

    def tell(self) -> int:
        return self._at

    def read(self, _size: int) -> bytes:
        """What of the next blocks is the section's; empty at its end."""
        while not self._ended:
            found = self._block()
            if found:
                self._last = found[-1:]
                return found
        if self._length is not None and self._last != b"\n":
            raise WrongIndex
        return b""

    def _block(self) -> bytes:
        first, end = self._at == 0, self._at == self._length
        if end and not self._tail:
            self._ended = True
            return b""
        if self._length is not None and self._at > self._length:
            raise WrongIndex
        head = self._file.read(HEAD)
        if not head and self._length is None:
            self._ended = True
            return b""
        if len(head) < HEAD and MAGIC.startswith(head[:4]):
            raise EOFError
        if head[:4] != MAGIC or head[12:14] != b"BC":
            raise WrongIndex if first else gzip.BadGzipFile
        size = int.from_bytes(head[16:18], "little") + 1
        packed = self._file.read(size - HEAD)
        if len(packed) < size - HEAD:
            raise EOFError
        data = zlib.decompress(packed[:-CHECKS], wbits=-15, bufsize=1 << 16)
        checks = zlib.crc32(data).to_bytes(4, "little") + len(data).to_bytes(4, "little")
        if checks != packed[-CHECKS:]:
            raise gzip.BadGzipFile
        self._at += size
        if (first and len(data) < self._skip) or (end and len(data) < self._tail):
            raise WrongIndex
        if first and self._skip and data[self._skip - 1] != ord("\n"):
            raise WrongIndex
        self._ended = end
        return data[self._skip if first else 0 : self._tail if end else None]

    def close(self) -> None:
        self._file.close()


def section_lines(path: Path, place: dict[str, int | None]) -> Iterator[tuple[Place, str]]:
    """Place (its line is counted from the section's beginning) and text of the section's lines. VcfError."""
    if place["skip"] == -1:
        return
    last = 0
    try:
        for at, text in split(lambda: SectionFile(path, place), None):
            last = at.line
            yield at, text
    except WrongIndex:
        why = "a place of the index is no line's beginning: index the file anew"
        raise VcfError("WrongIndex", last + 1, why) from None
    if place["length"] is None:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - len(BGZIP_END)))
            if file.read() != BGZIP_END:
                raise VcfError("TruncatedFile", last + 1, "the 28-byte end-of-file block of bgzip is missing")
