"""Byte ranges of a file whose size is known: `Range` and `If-Range` of RFC 9110 §14, one range at a time."""

from __future__ import annotations

import re
from dataclasses import dataclass

FORM = re.compile(r"^bytes=(\d{0,19})-(\d{0,19})$")


class Unsatisfiable(Exception):
    """416: the range starts behind the end."""


@dataclass(frozen=True)
class Span:
    """`length` bytes from `start`; `partial` where that was asked for (206)."""

    start: int
    length: int
    partial: bool


def span(header: str | None, if_range: str | None, etag: str, size: int) -> Span:
    """What to send. A malformed, multiple or outdated range is ignored (RFC 9110 §14.2): the whole file then.
    Unsatisfiable where it starts behind the end.
    """
    whole = Span(0, size, False)
    found = FORM.match(header.strip()) if header else None
    if found is None or (if_range is not None and if_range.strip() != etag):
        return whole
    first, last = found[1], found[2]
    if not first and not last:
        return whole
    if not first:
        count = min(int(last), size)
        if count == 0:
            raise Unsatisfiable
        return Span(size - count, count, True)
    start, end = int(first), min(int(last), size - 1) if last else size - 1
    if last and int(last) < int(first):
        return whole
    if start >= size:
        raise Unsatisfiable
    return Span(start, end - start + 1, True)
