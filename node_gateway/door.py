"""The closed door: how closely the centre may see what is no release (docs/disclosure.md, 5). Pure."""

from __future__ import annotations

import math
import re
from datetime import datetime
from typing import TypeVar

from gdi.contracts.task_errors import LASTING, TaskError

SMALLEST = 4096  # bytes: what any smaller file is told as
FAILED = "TaskFailed"
T = TypeVar("T", str, datetime)
_FRACTION = re.compile(r"\.[0-9]+")


def size(exact: int) -> int:
    """A file's size as it is told: the next power of two, from 4 KiB."""
    return SMALLEST if exact <= SMALLEST else 1 << math.ceil(math.log2(exact))


def seconds(time: T | None) -> T | None:
    """A time in whole seconds, as text (RFC 3339) or as it was."""
    if isinstance(time, str):
        return _FRACTION.sub("", time, count=1)
    return None if time is None else time.replace(microsecond=0)


def exit_code(exact: int | None) -> int | None:
    """Whether it failed, and no more: 256 codes would be a byte of message a try."""
    return None if exact is None else int(exact != 0)


def error(found: TaskError | None, classes: frozenset[str], *, lines: bool, platforms: bool) -> TaskError | None:
    """What a workflow says of its failure: a class of those that the node lets pass, with the line where it does. Of a
    failure that is the platform's, one of its own classes, else nothing.
    """
    if platforms and found is not None and found.error_class in LASTING:
        return TaskError(found.error_class)
    if found is None or found.error_class not in classes:
        return None if platforms else TaskError(FAILED)
    return TaskError(found.error_class, found.line if lines else None)
