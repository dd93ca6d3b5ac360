"""A clock that a test moves by hand, in place of the machine's."""

from __future__ import annotations

from collections.abc import Callable


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
