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


# The other way of writing each, in numbers (crontab(5)).
SAME = [
    ("0 6 * * MON-FRI", "0 6 * * 1-5"),
    ("0 6 * * mon-fri", "0 6 * * 1-5"),
    ("0 6 * * Thu", "0 6 * * 4"),
    ("0 6 * * FRI", "0 6 * * 5"),
    ("0 6 * * TUE,THU,FRI", "0 6 * * 2,4,5"),
    ("0 6 * MAR *", "0 6 * 3 *"),
    ("0 6 * APR *", "0 6 * 4 *"),
    ("0 6 1 MAR-APR *", "0 6 1 3-4 *"),
    ("0 6 1 jan,Mar,OCT *", "0 6 1 1,3,10 *"),
    ("0 6 * * SUN", "0 6 * * 0"),
    ("0 6 * * SUN", "0 6 * * 7"),
    ("0 6 * * SAT,SUN", "0 6 * * 6,7"),
    ("0 6 * * MON-FRI/2", "0 6 * * 1,3,5"),
    ("0 6 * * MON-WED,FRI", "0 6 * * 1,2,3,5"),
    ("0 6 * MAR-OCT/3 *", "0 6 * 3,6,9 *"),
    ("0 6 * APR FRI", "0 6 * 4 5"),
    ("0 6 13 * FRI", "0 6 13 * 5"),
    ("0\t6  *\t* MON", "0 6 * * 1"),
    ("0 */6 * * *", "0 0,6,12,18 * * *"),
    ("10-50/20 4 * * *", "10,30,50 4 * * *"),
    ("0 06 01 * *", "0 6 1 * *"),
    ("0 6 * * 5-7", "0 6 * * 0,5,6"),
]


@pytest.mark.parametrize(("written", "numbers"), SAME)
def test_names_and_every_other_form_of_crontab_mean_what_they_say(written: str, numbers: str) -> None:
    moment = at("2026-06-01T00:00")
    Cron(written, "Europe/Stockholm").check(moment)
    assert after(written, "Europe/Stockholm", "2026-06-01T00:00", 25) == after(
        numbers, "Europe/Stockholm", "2026-06-01T00:00", 25
    )


@pytest.mark.parametrize("name", ["JAN FEB MAR APR MAY JUN JUL AUG SEP OCT NOV DEC", "SUN MON TUE WED THU FRI SAT"])
def test_each_month_and_day_has_its_name(name: str) -> None:
    for number, one in enumerate(name.split(), start=1 if name.startswith("JAN") else 0):
        written, numbers = ("0 6 1 {} *", "0 6 1 {} *") if name.startswith("JAN") else ("0 6 * * {}", "0 6 * * {}")
        for case in (one, one.lower(), one.title()):
            assert after(written.format(case), "UTC", "2026-06-01T00:00", 5) == after(
                numbers.format(number), "UTC", "2026-06-01T00:00", 5
            )


@pytest.mark.parametrize(
    ("expression", "named"),
    [
        ("MON 6 * * *", "minute"),
        ("0 FRI * * *", "hour"),
        ("0 6 MAR * *", "day of month"),
        ("0 6 * FRI *", "month"),
        ("0 6 * * MAR", "day of week"),
        ("0 6 * * FRY", "day of week"),
        ("0 24 * * *", "hour"),
        ("60 6 * * *", "minute"),
        ("0 6 0 * *", "day of month"),
        ("0 6 * 13 *", "month"),
        ("0 6 * * 8", "day of week"),
        ("0 6 ? * MON", "day of month"),
        ("0 6 * * MON#2", "day of week"),
        ("0 R * * *", "hour"),
        ("0 H(0-5) * * *", "hour"),
        ("0 h * * *", "hour"),
        ("0 6 * * 1;rm", "day of week"),
        ("*/0 6 * * *", "minute"),
    ],
)
def test_a_field_that_cannot_be_read_is_named(expression: str, named: str) -> None:
    with pytest.raises(CronError, match=f"five fields.*is no {named}$"):
        Cron(expression, "UTC").check(at("2026-06-01T00:00"))
