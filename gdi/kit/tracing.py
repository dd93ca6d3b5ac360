"""A run's trace id goes along with it (W3C Trace Context): from Airflow's task to the archive, into log lines, and as
spans to an OTLP receiver where OTEL_EXPORTER_OTLP_ENDPOINT names one. Nobody here begins a trace; off means no import.

What comes from outside is an opaque id of one form, or nothing.
"""

from __future__ import annotations

import logging
import os
import re
from contextvars import ContextVar
from functools import cache
from typing import Any

import httpx

log = logging.getLogger(__name__)
HEADER, ENDPOINT = "traceparent", "OTEL_EXPORTER_OTLP_ENDPOINT"
_FORM = re.compile(r"00-(?!0{32})([0-9a-f]{32})-(?!0{16})[0-9a-f]{16}-0[01]")
_current: ContextVar[str] = ContextVar("traceparent", default="")


def valid(text: str | None) -> str:
    """The traceparent if it is one of version 00, else nothing."""
    return text if text and len(text) == 55 and _FORM.fullmatch(text) else ""


def enter(traceparent: str | None) -> None:
    """What this task or thread does from now on is a part of that trace; of none where it is not valid."""
    _current.set(valid(traceparent))


def current() -> str:
    """The traceparent of what goes on here, empty where there is none."""
    return _current.get()


def trace_id() -> str:
    """32 hex digits, or nothing."""
    return _current.get()[3:35]


def add_header(request: httpx.Request) -> None:
    """A hook for httpx's requests to the system's own servers."""
    if (traceparent := _current.get()) and HEADER not in request.headers:
        request.headers[HEADER] = traceparent


async def aadd_header(request: httpx.Request) -> None:
    add_header(request)


def mark_log_lines() -> None:
    """From now on each line of this process that is about a trace ends in its id."""
    known = logging.getLogRecordFactory()

    def marked(*given: Any, **more: Any) -> logging.LogRecord:  # as logging calls it
        record = known(*given, **more)
        if (found := trace_id()) and isinstance(record.msg, str):
            record.msg = f"{record.msg} trace={found}"
        return record

    logging.setLogRecordFactory(marked)


def start_export() -> None:
    """Before a server's loop runs: what exports spans takes seconds to import."""
    _tracer()


def record_span(name: str, traceparent: str, began: float, **attributes: str | int) -> None:
    """A span that began at `began` (epoch seconds) and ends now. Attributes hold no path, id of data or secret. Never
    raises: a request does not fail because of its span.
    """
    if not valid(traceparent) or (tracer := _tracer()) is None:
        return
    try:
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        parent = TraceContextTextMapPropagator().extract({HEADER: traceparent})
        span = tracer.start_span(name, context=parent, start_time=int(began * 1e9), attributes=attributes)
        span.end()
    except Exception as error:
        _warn(type(error).__name__)


@cache
def _warn(error: str) -> None:
    """Once of each. The error's own words may hold a variable's value, and OTEL_EXPORTER_OTLP_HEADERS is a secret."""
    log.warning("no span is exported (%s): check the variables OTEL_…", error)


@cache
def _tracer() -> Any:  # opentelemetry's Tracer, which is not imported where nothing is exported
    if not os.environ.get(ENDPOINT):
        return None
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError as error:
        log.warning("%s is set, and %s is not installed: no span is exported", ENDPOINT, error.name)
        return None
    try:
        provider = TracerProvider(resource=Resource.create())  # OTEL_SERVICE_NAME names the process
        provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
        return provider.get_tracer("gdi")
    except Exception as error:  # the SDK reads its variables here, and some values it does not take
        _warn(type(error).__name__)
        return None
