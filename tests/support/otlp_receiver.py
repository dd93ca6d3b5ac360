"""A receiver of OpenTelemetry's spans (OTLP over HTTP, protobuf) in this process."""

from __future__ import annotations

import gzip
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import ThreadingHTTPServer

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from tests.support.wire import BoundHandler
from tests.support.wires import OTLP


@dataclass(frozen=True)
class Span:
    service: str
    name: str
    trace: str
    parent: str
    attributes: tuple[tuple[str, str], ...]


class OtlpReceiver:
    def __init__(self) -> None:
        self.spans: list[Span] = []
        self.raw = b""
        receiver = self

        class Handler(BoundHandler):
            wire = OTLP

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                body = gzip.decompress(body) if self.headers.get("Content-Encoding") == "gzip" else body
                receiver.raw += body
                receiver.take(ExportTraceServiceRequest.FromString(body))
                self.answer(200, b"", "application/x-protobuf")

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.http.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.http.server_address[1]}"

    def take(self, request: ExportTraceServiceRequest) -> None:
        for of in request.resource_spans:
            service = next((a.value.string_value for a in of.resource.attributes if a.key == "service.name"), "")
            for span in (one for scope in of.scope_spans for one in scope.spans):
                values = ((a.key, a.value.string_value or str(a.value.int_value)) for a in span.attributes)
                ids = span.trace_id.hex(), span.parent_span_id.hex()
                self.spans.append(Span(service, span.name, *ids, tuple(values)))

    def environment(self, service: str) -> dict[str, str]:
        return {
            "OTEL_EXPORTER_OTLP_ENDPOINT": self.url,
            "OTEL_SERVICE_NAME": service,
            "OTEL_BSP_SCHEDULE_DELAY": "200",
        }


@contextmanager
def otlp_receiver() -> Iterator[OtlpReceiver]:
    made = OtlpReceiver()
    threading.Thread(target=made.http.serve_forever, args=(0.02,), daemon=True).start()
    try:
        yield made
    finally:
        made.http.shutdown()
        made.http.server_close()
