"""How many tasks to ask for at once: less where a server cannot answer so many (Funnel: 4 MB), more again when it
can.
"""

from __future__ import annotations

from dataclasses import dataclass

SLOW = 20.0  # seconds after which a page counts as too large
MAX_WAIT = 256


@dataclass
class PageSize:
    """Halved at each refusal; after `_wait` good pages twice as many are tried, and that wait grows each time the
    larger page fails again.

    TES 1.1: less than 2048.
    """

    largest: int
    smallest: int = 8
    size: int = 0
    _good: int = 0
    _wait: int = 4
    _trying: bool = False

    def __post_init__(self) -> None:
        self.size = self.size or self.largest

    def refused(self) -> None:
        """The server answered with an error, cut its answer off, or was too slow."""
        if self._trying:
            self._wait = min(MAX_WAIT, self._wait * 4)
        self._trying = False
        self._good = 0
        self.size = max(self.smallest, self.size // 2)

    def served(self, seconds: float) -> None:
        """A page came within `seconds`."""
        if seconds > SLOW:
            self.refused()
            return
        if self.size >= self.largest:
            self._trying = False
            return
        self._good += 1
        # A larger page that worked may be made larger at once: after an outage nothing is wrong with large pages.
        if self._trying or self._good >= self._wait:
            self._trying = True
            self._good = 0
            self.size = min(self.largest, self.size * 2)
