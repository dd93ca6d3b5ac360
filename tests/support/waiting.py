"""Waiting for a condition, with a bound."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def wait_for(what: str, check: Callable[[], T | None], timeout: float = 180, *, every: float = 0.25) -> T:
    """The first truthy value of `check`, looked at often, then each `every` seconds; AssertionError naming `what` after
    `timeout` seconds.
    """
    deadline, pause = time.monotonic() + timeout, min(0.05, every)
    while True:
        value = check()
        if value:
            return value
        assert time.monotonic() < deadline, f"not within {timeout:.0f} s: {what}"
        time.sleep(pause)
        pause = min(every, pause * 1.1)
