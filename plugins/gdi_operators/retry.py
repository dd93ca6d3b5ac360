"""Repeating a call while a server is away: bounded, with backoff and jitter; a refusal is never repeated."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TypeVar

import httpx

from gdi.kit.problem import ProblemError
from gdi.kit.retry import RetryPolicy, call_again

T = TypeVar("T")
log = logging.getLogger(__name__)


def is_away(error: Exception) -> bool:
    """Whether the same call may succeed later: no connection, a timeout, a 5xx, or too many requests."""
    if isinstance(error, ProblemError):
        return error.problem.status >= 500 or error.problem.status == 429
    return isinstance(error, httpx.TransportError | FileNotFoundError)


def with_retry(what: str, call: Callable[[], T], *, seconds: float) -> T:
    """The call's answer; its last error after `seconds` of a server being away, its first where that is a refusal."""
    return call_again(
        call,
        RetryPolicy(total=seconds, first=0.5, longest=10, jitter=(0.7, 1.3), last_try=False),
        again=lambda failure: is_away(failure.error),
        note=lambda failure: log.warning("%s: %s; trying again in %.0f s", what, short(failure.error), failure.pause),
    )


def short(error: Exception) -> str:
    """An error in one line that a user may see."""
    if isinstance(error, ProblemError):
        return str(error)[:1000]
    return f"{type(error).__name__}: {error}"[:300]
