"""A trace id is an opaque word of one form; what is off costs no import."""

from __future__ import annotations

import logging
import subprocess
import sys
from collections.abc import Iterator
from types import SimpleNamespace

import httpx
import pytest

from gdi.kit import server_command, tracing
from gdi.kit.server_command import ServerCommand

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


@pytest.fixture
def exported(monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    """A process that exports spans, to nobody."""
    monkeypatch.setenv(tracing.ENDPOINT, "http://127.0.0.1:9")
    tracer = tracing._tracer
    tracer.cache_clear()
    tracing._warn.cache_clear()
    yield monkeypatch
    tracer.cache_clear()


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("OTEL_BSP_SCHEDULE_DELAY", "0"),
        ("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "1000000"),
        ("OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT", "-1"),
    ],
)
def test_a_variable_that_the_sdk_does_not_take_is_said_once_and_no_request_fails(
    exported: pytest.MonkeyPatch, variable: str, value: str, caplog: pytest.LogCaptureFixture
) -> None:
    exported.setenv(variable, value)
    with caplog.at_level(logging.WARNING, logger="gdi.kit.tracing"):
        tracing.start_export()
        for _ in range(2):
            tracing.record_span("GET /x", GOOD, 1.0, status=200)
    found = [record.getMessage() for record in caplog.records if record.name == "gdi.kit.tracing"]
    assert found == ["no span is exported (ValueError): check the variables OTEL_…"]


def test_a_span_that_cannot_be_recorded_fails_no_request(
    exported: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def start_span(*_: object, **__: object) -> None:
        raise RuntimeError("can't start new thread")

    exported.setattr(tracing, "_tracer", lambda: SimpleNamespace(start_span=start_span))
    for _ in range(3):
        tracing.record_span("GET /x", GOOD, 1.0)
    assert [message for message in caplog.messages if "RuntimeError" in message] == caplog.messages[:1]


def test_what_exports_is_imported_before_a_servers_loop_runs(exported: pytest.MonkeyPatch) -> None:
    order: list[str] = []
    exported.setattr(tracing, "_tracer", lambda: order.append("import"))
    exported.setattr(server_command, "mark_log_lines", lambda: None)
    exported.setattr(server_command, "NOISY", ())

    async def loop() -> int:
        order.append("loop")
        return 0

    for words, expected in ((["server"], ["import", "loop"]), (["server", "migrate"], ["loop"])):
        exported.setattr(sys, "argv", words)
        order.clear()
        assert (ServerCommand("server", "gdi", "", "", loop, loop).run(), order) == (0, expected)


def test_off_imports_nothing() -> None:
    code = (
        f"import sys; from gdi.kit import tracing; tracing.record_span('x', '{GOOD}', 1.0);"
        "print([m for m in sys.modules if m.startswith(('opentelemetry', 'requests'))])"
    )
    found = subprocess.run([sys.executable, "-c", code], env={"PATH": ""}, capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
