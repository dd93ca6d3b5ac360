"""Rows of a release that waits, of the very bytes that would leave: some in their order, or a few from everywhere."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any

from gdi.releases import columns
from gdi.releases.kind import NodeHalf

Rows = list[tuple[Any, ...]]


def rows(half: NodeHalf[Any, Any], file: Path, start: int, count: int) -> Rows:
    """At most `count` from `start` (0 is the first)."""
    with file.open("rb") as opened:
        check = half.column_check() if columns.is_parquet(opened.read(4)) else None
        opened.seek(0)
        return half.rows(opened, start, count) if check is None else check.rows(file, start, count)


def spread(half: NodeHalf[Any, Any], file: Path, shares: Sequence[float], count: int) -> Rows:
    """`count` rows around each of these shares of the file's length; all of them, where they are no more."""
    length = _length(file)
    if length <= count * len(shares):
        return rows(half, file, 0, length)
    starts = sorted({max(0, min(length - count, int(share * length) - count // 2)) for share in shares})
    return list(dict.fromkeys(row for start in starts for row in rows(half, file, start, count)))


def _length(file: Path) -> int:
    """How many rows there are: of a text, two of the lines are none (`NodeHalf.write`)."""
    with file.open("rb") as opened:
        if columns.is_parquet(opened.read(4)):
            import polars as pl

            return int(pl.scan_parquet(file).select(pl.len()).collect().item())
        return max(0, sum(_newlines(opened)) - 2)


def _newlines(opened: IO[bytes]) -> list[int]:
    return [piece.count(b"\n") for piece in iter(lambda: opened.read(1024 * 1024), b"")]
