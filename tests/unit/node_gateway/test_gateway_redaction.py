"""Redaction is linear in what strangers write, and the thread that writes the log does it."""

from __future__ import annotations

import io
import logging
import re
import threading
import time
from collections.abc import Callable

import pytest

from node_gateway.redaction import QueuedLog, RedactingFormatter, looks_secret, redact

WAS = re.compile(r"eyJ[A-Za-z0-9_-]{5,}(?:\.[A-Za-z0-9_-]*){1,4}")  # quadratic: each eyJ looks at the whole word


def seconds(work: Callable[[], object]) -> float:
    def once() -> float:
        began = time.thread_time()
        work()
        return time.thread_time() - began

    return min(once() for _ in range(3))


@pytest.mark.parametrize(
    "piece", ["eyJ", "s3://", "basic ", "bearer  ", "gdit_", "eyJhbGciOi.eyJ", "eyJa.", "gdic_", "#", "sda://a#"]
)
def test_twenty_times_the_text_takes_no_more_than_its_share(piece: str) -> None:
    small, large = piece * (10_000 // len(piece)), piece * (200_000 // len(piece))
    assert seconds(lambda: redact(large, len(large))) < 100 * seconds(lambda: redact(small, len(small))) + 0.05
    assert seconds(lambda: looks_secret(large)) < 100 * seconds(lambda: looks_secret(small)) + 0.05


def test_the_pattern_of_before_was_quadratic() -> None:
    word = "eyJ" * 1500
    assert seconds(lambda: WAS.search(word)) > 20 * seconds(lambda: looks_secret(word))


def test_tokens_are_removed_and_words_stay() -> None:
    token = "eyJhbGciOi.eyJzdWIi.c2ln"
    text = f"a {token} b x{token} sda://DS/f.c4gh#gdic_abc Bearer abcdefghijkl gdit_abc eyJustAWord basic"
    assert redact(text) == "a [removed] b x[removed] sda://DS/f.c4gh [removed] [removed] eyJustAWord basic"
    assert looks_secret(f"--x={token}") and not looks_secret("eyJustAWord eyJ eyJa.b")


def test_a_token_that_is_cut_before_its_first_dot_does_not_stay() -> None:
    text = "gdic_x " * 10 + "eyJ" + "a" * 5000 + ".eyJ" + "b" * 50
    assert "aaa" not in redact(text, 100)


def test_records_are_redacted_by_the_logs_own_thread_and_none_waits_at_the_end() -> None:
    threads: list[str] = []

    class Formatter(RedactingFormatter):
        def format(self, record: logging.LogRecord) -> str:
            threads.append(threading.current_thread().name)
            return super().format(record)

    out = io.StringIO()
    target = logging.StreamHandler(out)
    target.setFormatter(Formatter("%(message)s"))
    queued = QueuedLog(target)
    log = logging.Logger("t")
    log.addHandler(queued)
    for number in range(200):
        log.warning("%d gdit_%s", number, "x" * 20)
    try:
        raise ValueError("gdic_secret")
    except ValueError:
        log.exception("failed")
    queued.close()
    lines = out.getvalue().splitlines()
    assert lines[:200] == [f"{n} [removed]" for n in range(200)]
    assert "ValueError: [removed]" in lines and "gdic_" not in out.getvalue()
    assert threading.current_thread().name not in threads
