"""The merged answer for a page: its kind reads answer.tsv, once for each version of the file."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

from gdi.releases.registry import kind_of


def read(file: Path, kind: str) -> dict[str, Any]:
    """`{columns, rows, total, withheld, unit, …}`, as JSON, and what the kind's drawing needs. Blocking; a file that
    has not changed is not read again.

    ValueError where it is no answer of the kind, UnknownKindError where there is no such kind here.
    """
    state = file.stat()
    return _read(file, kind, state.st_mtime_ns, state.st_size)


@lru_cache(maxsize=8)
def _read(file: Path, name: str, _changed: int, _size: int) -> dict[str, Any]:
    kind = kind_of(name)
    return {**kind.coordinator().page(file).json(), "unit": kind.row}
