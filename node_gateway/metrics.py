"""What operations watch. No label holds a run, a user, a dataset or anything that a caller chose."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from starlette.types import Scope

from gdi.kit.measured import method


class Metrics:
    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "gdi_gateway_requests_total",
            "Requests by listener, method and status.",
            ["listener", "method", "status"],
            registry=self.registry,
        )
        self.seconds = Histogram(
            "gdi_gateway_request_seconds", "Time to the last byte of an answer.", ["listener"], registry=self.registry
        )
        self.tasks_created = Counter(
            "gdi_gateway_tasks_created_total", "Tasks handed to the TES.", registry=self.registry
        )
        self.denials = Counter(
            "gdi_gateway_denials_total", "Reads denied, by error class.", ["error_class"], registry=self.registry
        )
        self.bytes = Counter(
            "gdi_gateway_data_bytes_total",
            "Encrypted bytes streamed from the archive to the TES.",
            registry=self.registry,
        )
        self.streams = Gauge("gdi_gateway_data_streams", "Reads in progress.", registry=self.registry)
        self.releases = Counter(
            "gdi_gateway_releases_total", "Releases asked for, by result.", ["result"], registry=self.registry
        )

        self.policy_problem = Gauge(
            "gdi_gateway_policy_problem",
            "1 while the policy file has a mistake and the last good policy is in force.",
            registry=self.registry,
        )

    def observe(self, listener: str, scope: Scope, status: int, seconds: float) -> None:
        """For gdi.kit.measured: each request, by the listener that it came to."""
        self.requests.labels(listener, method(scope), str(status)).inc()
        self.seconds.labels(listener).observe(seconds)

    def text(self) -> bytes:
        return generate_latest(self.registry)
