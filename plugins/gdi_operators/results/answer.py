"""The merged answer for a page: its kind reads answer.tsv, once for each version of the file."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

from gdi.contracts.results import AnswerPage, AnswerRows
from gdi.releases import columns
from gdi.releases.columns import AnswerSpan, ColumnMerge
from gdi.releases.registry import kind_of


def read(file: Path, kind: str) -> AnswerPage:
    """The first rows, and what the kind's drawing needs. Blocking; a file that has not changed is not read again.

    ValueError where it is no answer of the kind, UnknownKindError where there is no such kind here.
    """
    state = file.stat()
    return _read(file, kind, state.st_mtime_ns, state.st_size)


@lru_cache(maxsize=8)
def _read(file: Path, name: str, _changed: int, _size: int) -> AnswerPage:
    kind, half = kind_of(name), kind_of(name).coordinator()
    if file.suffix != columns.SUFFIX:
        return AnswerPage(**half.page(file).json(), unit=kind.row)
    merge = _merge_of(name)
    return AnswerPage(**merge.page(file).json(), unit=kind.row, regions=merge.regions(file))


def rows(file: Path, kind: str, start: int, count: int, span: AnswerSpan | None) -> AnswerRows:
    """At most `count` rows from `start` of an answer in columns, of those within `span`. Blocking; only the groups of
    rows that are needed are read. ValueError where it is no such answer.
    """
    total, found = _merge_of(kind).rows(file, start, count, span)
    return AnswerRows(rows=found, total=total, start=start)


def _merge_of(kind: str) -> ColumnMerge:
    merge = kind_of(kind).coordinator().column_merge()
    if merge is None:
        raise ValueError(f"{kind} has no answers in columns")
    return merge
