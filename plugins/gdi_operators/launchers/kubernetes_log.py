"""A pod's log as the kubelet sends it, each line with its time: which lines are new, and from which time the next look
goes on. Pure.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime

_STAMP = re.compile(r"^(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?(Z|[+-]\d\d:\d\d)$")  # RFC 3339
NO_TIME = (0, 0)


def moment(stamp: str) -> tuple[int, int]:
    """(seconds since the epoch, nanoseconds), so that times compare however they are written; NO_TIME for what is no
    RFC 3339 time.
    """
    found = _STAMP.fullmatch(stamp)
    try:
        return (
            NO_TIME
            if found is None
            else (int(datetime.fromisoformat(found[1] + found[3]).timestamp()), int((found[2] or "").ljust(9, "0")))
        )
    except ValueError:  # no such day
        return NO_TIME


def stamp_of(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def new_lines(body: bytes, since: str, *, ended: bool) -> tuple[list[tuple[str, str]], int]:
    """((time, text) of each line after `since`, how many lines had a time). Only a newline ends a line, as in the pod's
    output, which may hold carriage returns; the last one without it is still being written, or was cut by the limit,
    unless the pod has `ended`.
    """
    pieces = body.split(b"\n")
    if (last := pieces.pop()) and ended:
        pieces.append(last)
    begin, new, known = moment(since), [], 0
    for piece in pieces:
        stamp, _, text = piece.decode(errors="replace").partition(" ")
        at = moment(stamp)
        known += at != NO_TIME
        if at > begin:
            new.append((stamp, text.rstrip("\r")))
    return new, known
