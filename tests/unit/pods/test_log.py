"""A pod's log, a look at a time: no line twice, none lost without a word, bounded."""

from __future__ import annotations

import time

import pytest

from gdi.pods import log as pod_log
from gdi.pods.log import answer, moment, new_lines, question
from gdi.pods.times import epoch, stamp_of


def test_only_a_newline_ends_a_line_and_only_a_time_is_one() -> None:
    body = (
        b"2026-01-01T00:00:00.1Z 10%\r50%\x0b\x1c\xe2\x80\xa8x\r\n2026-01-01T00:00:00.12Z next\nrpc error: no such"
        b" container\n2026-13-01T00:00:00Z never\n"
    )
    new, known = new_lines(body + b"2026-01-01T00:00:01Z half", "", ended=False)
    assert (
        new == [("2026-01-01T00:00:00.1Z", "10%\r50%\x0b\x1c\u2028x"), ("2026-01-01T00:00:00.12Z", "next")]
        and known == 2
    )
    assert [text for _, text in new_lines(body, "2026-01-01T00:00:00.100000000Z", ended=False)[0]] == ["next"]
    assert new_lines(b"2026-01-01T00:00:01Z half", "", ended=True)[0] == [("2026-01-01T00:00:01Z", "half")]
    assert (
        moment("2026-01-01T02:00:00.5+02:00") == moment("2026-01-01T00:00:00.500Z") > moment("2026-01-01T00:00:00.49Z")
    )
    assert moment("50%") == moment("") == (0, 0) and moment(stamp_of(1e9))[0] == 10**9


def test_a_look_asks_for_what_came_since_the_last() -> None:
    assert question("", ended=False) == {"limit_bytes": pod_log.MAX_LOG}
    assert question(stamp_of(time.time() - 100), ended=False)["since_seconds"] in range(100, 160)
    assert question("x", ended=True) == {"tail_lines": pod_log.TAIL_LINES, "limit_bytes": pod_log.MAX_TAIL}
    assert epoch("no time") is None and epoch("1970-01-01T00:01:00Z") == 60


def test_a_look_that_brings_nothing_new_and_is_full_goes_on_from_now(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pod_log, "MAX_LOG", 60)
    body = b"2026-01-01T00:00:00.1Z one\n2026-01-01T00:00:00.2Z two\n" + b"x" * 20
    lines, since = answer(body, "", ended=False)
    assert (lines, since) == (["one", "two"], "2026-01-01T00:00:00.2Z")
    lines, since = answer(body, since, ended=False)
    assert lines == [pod_log.LEFT_OUT] and (epoch(since) or 0) > time.time() - 60
