"""A trace id is an opaque word of one form; what is off costs no import."""

from __future__ import annotations

import logging
import subprocess
import sys

import httpx
import pytest

from gdi.kit import tracing

GOOD = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


@pytest.mark.parametrize(
    "text",
    [
        "",
        None,
        GOOD.upper(),
        GOOD + "-more",
        GOOD[:-1],
        GOOD + "\n",
        "01" + GOOD[2:],
        "ff" + GOOD[2:],
        GOOD[:-2] + "zz",
        f"00-{'0' * 32}-00f067aa0ba902b7-01",
        f"00-4bf92f3577b34da6a3ce929d0e0e4736-{'0' * 16}-01",
        "00-٤bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        "x" * 100_000,
    ],
    ids=range(13),
)
def test_what_is_no_traceparent_is_nothing(text: str | None) -> None:
    assert tracing.valid(text) == ""
    tracing.enter(GOOD)
    tracing.enter(text)
    assert (tracing.current(), tracing.trace_id()) == ("", "")


def test_requests_and_log_lines_of_a_trace_carry_its_id(caplog: pytest.LogCaptureFixture) -> None:
    known = logging.getLogRecordFactory()
    tracing.mark_log_lines()
    try:
        for trace, id_ in (("", ""), (GOOD, " trace=4bf92f3577b34da6a3ce929d0e0e4736")):
            tracing.enter(trace)
            request = httpx.Request("GET", "http://broker.test/")
            tracing.add_header(request)
            assert request.headers.get("traceparent", "") == trace
            with caplog.at_level(logging.INFO):
                logging.getLogger("x").info("%d %% of %s", 5, "it")
            assert caplog.messages[-1] == f"5 % of it{id_}"
    finally:
        logging.setLogRecordFactory(known)
        tracing.enter("")


def test_off_imports_nothing() -> None:
    code = (
        f"import sys; from gdi.kit import tracing; tracing.record_span('x', '{GOOD}', 1.0);"
        "print([m for m in sys.modules if m.startswith(('opentelemetry', 'requests'))])"
    )
    found = subprocess.run([sys.executable, "-c", code], env={"PATH": ""}, capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
