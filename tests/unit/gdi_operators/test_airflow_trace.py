"""Airflow's task hands its trace on where the operator turned Airflow's tracing on, and only there."""

from __future__ import annotations

from pathlib import Path

import pytest
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags, use_span

from gdi.kit import tracing
from gdi_operators.hooks.token_broker import TokenBrokerHook

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


@pytest.mark.parametrize(("on", "expected"), [("True", f"00-{TRACE}-{SPAN}-01"), ("False", "")])
def test_the_tasks_trace_goes_to_the_broker(
    on: str, expected: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("AIRFLOW__TRACES__OTEL_ON", on)
    monkeypatch.setenv("GDI_BROKER_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("GDI_IDENTITY_TOKEN_FILE", str(tmp_path / "token"))
    span = NonRecordingSpan(SpanContext(int(TRACE, 16), int(SPAN, 16), is_remote=True, trace_flags=TraceFlags(1)))
    try:
        with use_span(span):
            client = TokenBrokerHook().get_conn()
        request = client._http.build_request("POST", "/v1/runs")
        for hook in client._http.event_hooks["request"]:
            hook(request)
        assert request.headers.get("traceparent", "") == expected
    finally:
        tracing.enter("")
