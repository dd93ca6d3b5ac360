"""Clocks that tests move, in place of the machine's: by hand, or by the event loop itself (virtual time)."""

from __future__ import annotations

import asyncio
import functools
import selectors
import time
from collections.abc import Callable, Coroutine
from typing import Any, ParamSpec, TypeVar
from unittest import mock

P = ParamSpec("P")
T = TypeVar("T")


class Clock:
    """Stands for a function that gives seconds (call it), and for the module `time` where a test puts it there.

    `now`: seconds, of any beginning. `meanwhile` runs whenever somebody sleeps: what happens in that time.
    """

    def __init__(self, now: float = 1000.0) -> None:
        self.now = now
        self.meanwhile: Callable[[], None] = lambda: None

    def __call__(self) -> float:
        return self.now

    def time(self) -> float:
        return self.now

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        self.meanwhile()


class _Selector(selectors.DefaultSelector):
    """Where nothing is ready, the time until the next timer is over at once."""

    def __init__(self, clock: Clock) -> None:
        super().__init__()
        self._clock = clock

    def select(self, timeout: float | None = None) -> Any:
        ready = super().select(0)
        if ready or (timeout is not None and timeout <= 0):
            return ready
        if timeout is None:
            return super().select(None)
        self._clock.now += timeout
        return []


class _Loop(asyncio.SelectorEventLoop):
    def __init__(self, clock: Clock) -> None:
        self._virtual = clock
        super().__init__(_Selector(clock))

    def time(self) -> float:
        return self._virtual.now


def virtually(story: Coroutine[Any, Any, T]) -> T:
    """Runs a coroutine in virtual time: `asyncio.sleep`, timeouts, `time.monotonic` and `time.time` follow a clock
    that moves only where all tasks wait. However slow the machine, no code takes any time.

    For what happens within the process: not for threads or other processes, whose work takes real time.
    """
    clock, epoch = Clock(), time.time()
    with (
        mock.patch.object(time, "monotonic", clock),
        mock.patch.object(time, "time", lambda: epoch + clock.now - 1000.0),
        asyncio.Runner(loop_factory=lambda: _Loop(clock)) as runner,
    ):
        return runner.run(story)


def virtual_time(test: Callable[P, Coroutine[Any, Any, None]]) -> Callable[P, None]:
    """An asynchronous test that runs in virtual time (see `virtually`)."""

    @functools.wraps(test)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        virtually(test(*args, **kwargs))

    return run
