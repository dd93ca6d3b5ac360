"""What was found out a short while ago, by what it was asked for: bounded in age and number."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Hashable
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class RecentValues(Generic[K, V]):
    """By key, what came within `seconds`; of at most `most` keys, those that came last."""

    def __init__(self, seconds: float, most: int) -> None:
        self._seconds, self._most = seconds, most
        self._found: OrderedDict[K, tuple[V, float]] = OrderedDict()

    def get(self, key: K) -> V | None:
        value, since = self._found.get(key, (None, float("-inf")))
        return value if time.monotonic() - since <= self._seconds else None

    def keep(self, key: K, value: V, since: float | None = None) -> None:
        """`since`: of the monotonic clock; now where it is not said."""
        self.drop(key)
        self._found[key] = value, time.monotonic() if since is None else since
        while len(self._found) > self._most:
            self._found.popitem(last=False)

    def drop(self, key: K) -> None:
        self._found.pop(key, None)
