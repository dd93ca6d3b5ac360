"""When a cron expression falls due in a time zone: standard five fields; a time that summer time skips falls due right
after the gap, one that it repeats once.

Only where the hour field is `*` or `*/n` does a repeated hour count twice: every hour means every hour.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from croniter import CroniterError, croniter

MIN_GAP = 300.0  # seconds between two starts of a schedule
FIELDS = ("minute", "hour", "day of month", "month", "day of week")
FOREIGN = re.compile(r"[@?#]|(?<![A-Za-z])[HhRr](?![A-Za-z])")
FAR = 5 * 366 * 86400.0  # an expression that never comes within five years is refused


class CronError(ValueError):
    """What is wrong with an expression or a time zone."""


def _fields(expression: str) -> list[str]:
    """The five fields of crontab(5): numbers, lists, ranges, steps, and names of months and days in any case. What only
    other programs know (`H`, `R`, `?`, `#`, nicknames) is refused: it would mean something else here, or nothing.
    """
    fields = expression.split()
    if len(fields) != len(FIELDS):
        raise CronError(f"cron must have five fields: {', '.join(FIELDS)}")
    for name, field in zip(FIELDS, fields, strict=True):
        alone = " ".join(field if other == name else "*" for other in FIELDS)
        if FOREIGN.search(field) or not croniter.is_valid(alone):
            raise CronError(f"cron must have five fields ({', '.join(FIELDS)}), and {field[:40]!r} is no {name}")
    if not croniter.is_valid(expression):
        raise CronError("cron must have five fields that fit together")
    return fields


class Cron:
    """`following(t)` and `latest(t)` in epoch seconds. CronError where the expression, the zone, or the gap between two
    starts is not fit.
    """

    def __init__(self, expression: str, timezone: str) -> None:
        fields = _fields(expression)
        try:
            self._zone = ZoneInfo(timezone)
        except (ZoneInfoNotFoundError, ValueError, OSError):
            raise CronError(f"there is no time zone {timezone[:64]!r}; name one as Europe/Stockholm or UTC") from None
        self._expression, self._repeats = " ".join(fields), fields[1].startswith("*")

    def check(self, now: float) -> None:
        """CronError where it never comes, or too often: judged by its next starts."""
        times = [t for t, _ in zip(self.after(now), range(20), strict=False)]
        if not times or times[0] - now > FAR:
            raise CronError("it never falls due")
        if any(b - a < MIN_GAP for a, b in pairwise(times)):
            raise CronError(f"it falls due more often than every {MIN_GAP:g} seconds")

    def after(self, moment: float) -> Iterator[float]:
        """All times after `moment`, in order."""
        last = moment
        # one day early: what summer time moved may lie before its wall-clock time
        walls = croniter(
            self._expression, (datetime.fromtimestamp(moment, self._zone) - timedelta(days=1)).replace(tzinfo=None)
        )
        while True:
            try:
                wall: datetime = walls.get_next(datetime)
            except CroniterError:
                return
            for found in self._instants(wall):
                if found > last:
                    last = found
                    yield found

    def following(self, moment: float) -> float | None:
        return next(self.after(moment), None)

    def latest(self, moment: float) -> float | None:
        """The last time at or before `moment`."""
        wall = (datetime.fromtimestamp(moment, self._zone) + timedelta(days=1)).replace(tzinfo=None)
        walls = croniter(self._expression, wall)
        while True:
            try:
                found = [t for t in self._instants(walls.get_prev(datetime)) if t <= moment]
            except CroniterError:
                return None
            if found:
                return found[-1]

    def _instants(self, wall: datetime) -> list[float]:
        first = wall.replace(tzinfo=self._zone)
        second = wall.replace(tzinfo=self._zone, fold=1)
        times = [first.timestamp()]
        if first.utcoffset() != second.utcoffset():
            # Skipped by summer time: fold=0 reads the clock of before, which lies right after the gap. Repeated: fold=1
            # is the second time.
            ambiguous = (
                datetime.fromtimestamp(second.timestamp(), UTC).astimezone(self._zone).replace(tzinfo=None) == wall
            )
            if ambiguous and self._repeats:
                times.append(second.timestamp())
        return times
