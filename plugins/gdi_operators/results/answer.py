"""The merged answer for a page: its kind reads answer.tsv, once for each version of the file."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

from gdi.contracts.results import AnswerPage
from gdi.releases.registry import kind_of


def read(file: Path, kind: str) -> AnswerPage:
    """The first rows, and what the kind's drawing needs. Blocking; a file that has not changed is not read again.

    ValueError where it is no answer of the kind, UnknownKindError where there is no such kind here.
    """
    state = file.stat()
    return _read(file, kind, state.st_mtime_ns, state.st_size)


@lru_cache(maxsize=8)
def _read(file: Path, name: str, _changed: int, _size: int) -> AnswerPage:
    kind = kind_of(name)
    return AnswerPage(**kind.coordinator().page(file).json(), unit=kind.row)
