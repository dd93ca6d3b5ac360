"""Token buckets by name, in this process: two replicas let twice as much pass, which harms nothing that they guard."""

from __future__ import annotations

import math
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from gdi.kit.problem import ProblemError

MAX_NAMES = 50_000  # kept; the one that was silent longest goes first, and is full again


@dataclass(frozen=True)
class Rate:
    """So many a minute, as many at once at most (`burst`)."""

    per_minute: float
    burst: float


class RateLimit:
    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._buckets: OrderedDict[tuple[str, str], tuple[float, float]] = OrderedDict()  # what is left, and when

    def take(self, what: str, who: str, rate: Rate) -> None:
        """One of `what` by `who`. ProblemError 429 `too-many-requests` with `retry_after` (seconds) where it is one too
        many.
        """
        now, key = self._clock(), (what, who)
        left, since = self._buckets.get(key, (rate.burst, now))
        left = min(rate.burst, left + (now - since) * rate.per_minute / 60)
        if left < 1:
            self._keep(key, left, now)
            wait = math.ceil((1 - left) * 60 / rate.per_minute)
            raise ProblemError(
                429,
                "too-many-requests",
                f"Too many {what}: {rate.per_minute:g} a minute are answered.",
                action=f"Try again in {wait} s.",
                retry_after=wait,
            )
        self._keep(key, left - 1, now)

    def _keep(self, key: tuple[str, str], left: float, now: float) -> None:
        self._buckets[key] = left, now
        self._buckets.move_to_end(key)
        while len(self._buckets) > MAX_NAMES:
            self._buckets.popitem(last=False)
