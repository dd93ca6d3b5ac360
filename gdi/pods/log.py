"""A pod's log as the kubelet sends it, each line with its time: which lines are new, and from which time the next look
goes on. Pure.
"""

from __future__ import annotations

import re
import time
from datetime import datetime
from typing import Any

from gdi.pods.times import epoch, stamp_of

MAX_LOG = 256 * 1024  # bytes of log that one look brings
TAIL_LINES = 150  # of a pod's log that are brought at its end: its last words, however far behind the looks were
MAX_TAIL = 4 * 1024 * 1024  # bytes of them: the kubelet cuts a line into pieces of 16 KiB, each of which counts
LEFT_OUT = "(more was said here than is shown; lines are left out)"
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


def question(since: str, *, ended: bool) -> dict[str, Any]:
    """The parameters of a look at a log: what came after `since` ("" at first), or the last lines where it `ended`."""
    if ended:
        return {"tail_lines": TAIL_LINES, "limit_bytes": MAX_TAIL}
    options: dict[str, Any] = {"limit_bytes": MAX_LOG}
    if since:
        options["since_seconds"] = max(1, int(time.time() - (epoch(since) or 0.0)) + 2)
    return options


def answer(body: bytes, since: str, *, ended: bool) -> tuple[list[str], str]:
    """(the new lines of a look's answer, the next `since`); a line says so where some are left out."""
    new, known = new_lines(body, since, ended=ended)
    lines = [text for _, text in new]
    if ended:
        if len(new) == known >= TAIL_LINES:  # nothing of it was shown before
            lines.insert(0, LEFT_OUT)
    elif not new and len(body) >= MAX_LOG:  # more than a look brings within what it looks back: it would for ever
        return [LEFT_OUT], stamp_of(time.time())
    return lines, new[-1][0] if new else since
