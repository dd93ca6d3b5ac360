"""Cron in a time zone: summer time makes no start lost, doubled or early."""

from __future__ import annotations

from datetime import UTC, datetime
from itertools import islice

import pytest

from token_broker.grants.cron import Cron, CronError


def at(text: str) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()


def after(expression: str, zone: str, moment: str, count: int) -> list[str]:
    return [
        datetime.fromtimestamp(t, UTC).strftime("%m-%d %H:%M")
        for t in islice(Cron(expression, zone).after(at(moment)), count)
    ]


def test_a_daily_start_keeps_its_wall_clock_over_summer_time() -> None:
    assert after("0 6 * * *", "Europe/Stockholm", "2026-03-27T12:00", 3) == [
        "03-28 05:00",
        "03-29 04:00",
        "03-30 04:00",
    ]
    assert after("0 6 * * *", "Europe/Stockholm", "2026-10-23T12:00", 3) == [
        "10-24 04:00",
        "10-25 05:00",
        "10-26 05:00",
    ]


def test_a_time_that_summer_time_skips_comes_once_right_after_the_gap() -> None:
    assert after("30 2 * * *", "Europe/Stockholm", "2026-03-27T12:00", 3) == [
        "03-28 01:30",
        "03-29 01:30",
        "03-30 00:30",
    ]


def test_a_time_that_comes_twice_starts_once_but_every_hour_means_every_hour() -> None:
    assert after("30 2 * * *", "Europe/Stockholm", "2026-10-24T12:00", 2) == ["10-25 00:30", "10-26 01:30"]
    assert after("0 * * * *", "Europe/Stockholm", "2026-10-24T23:30", 4) == [
        "10-25 00:00",
        "10-25 01:00",
        "10-25 02:00",
        "10-25 03:00",
    ]


def test_latest_and_following_meet() -> None:
    cron = Cron("0 6 * * 1", "America/New_York")
    for moment in (at("2026-03-08T12:00"), at("2026-11-01T05:30"), at("2026-06-01T10:00")):
        latest, following = cron.latest(moment), cron.following(moment)
        assert latest is not None and following is not None and latest <= moment < following
        assert cron.following(latest) == following


@pytest.mark.parametrize(
    ("expression", "zone", "said"),
    [
        ("* * * * *", "UTC", "more often"),
        ("0 0 31 2 *", "UTC", "never"),
        ("0 0 * *", "UTC", "five fields"),
        ("0 0 0 * * *", "UTC", "five fields"),
        ("@daily", "UTC", "five fields"),
        ("0 6 * * *", "../../etc/passwd", "no time zone"),
        ("0 6 * * *", "Mars/Olympus", "no time zone"),
        ("H 6 * * *", "UTC", "five fields"),
    ],
)
def test_what_is_no_schedule_is_refused_with_the_reason(expression: str, zone: str, said: str) -> None:
    with pytest.raises(CronError, match=said):
        Cron(expression, zone).check(at("2026-06-01T00:00"))
