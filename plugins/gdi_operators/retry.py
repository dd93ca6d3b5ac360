"""Repeating a call while a server is away: bounded, with backoff and jitter; a refusal is never repeated."""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable
from typing import TypeVar

import httpx

from gdi.kit.problem import ProblemError

T = TypeVar("T")
log = logging.getLogger(__name__)


def is_away(error: Exception) -> bool:
    """Whether the same call may succeed later: no connection, a timeout, a 5xx, or too many requests."""
    if isinstance(error, ProblemError):
        return error.problem.status >= 500 or error.problem.status == 429
    return isinstance(error, httpx.TransportError | FileNotFoundError)


def with_retry(what: str, call: Callable[[], T], *, seconds: float) -> T:
    """The call's answer; its last error after `seconds` of a server being away, its first where that is a refusal."""
    deadline = time.monotonic() + seconds
    pause = 0.5
    while True:
        try:
            return call()
        except (httpx.TransportError, ProblemError, FileNotFoundError) as error:
            if not is_away(error) or time.monotonic() + pause > deadline:
                raise
            log.warning("%s: %s; trying again in %.0f s", what, short(error), pause)
        time.sleep(pause * random.uniform(0.7, 1.3))  # noqa: S311
        pause = min(pause * 2, 10)


def short(error: Exception) -> str:
    """An error in one line that a user may see."""
    if isinstance(error, ProblemError):
        return str(error)[:1000]
    return f"{type(error).__name__}: {error}"[:300]
