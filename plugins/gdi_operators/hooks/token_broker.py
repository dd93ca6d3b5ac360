"""TokenBrokerHook: the broker as Airflow's own workload sees it, and the run tokens for gateways. Holds no secret: the
identity token is read at each call.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import httpx
from airflow.sdk import BaseHook

from gdi.broker_client.catalogue import bring_workflows
from gdi.broker_client.client import AsyncBrokerClient, BrokerClient
from gdi.contracts import broker_api as m
from gdi.contracts import orders as o
from gdi.contracts.run_token import AirflowsScope
from gdi.kit import tracing
from gdi.kit.bearer import token_file
from gdi.kit.problem import ProblemError
from gdi.kit.settings import SettingsError
from gdi_operators.provider import TYPE
from gdi_operators.retry import short, with_retry
from gdi_operators.settings import settings

T = TypeVar("T")
JWT = re.compile(r"[A-Za-z0-9_-]{2,4000}\.[A-Za-z0-9_-]{2,8000}\.[A-Za-z0-9_-]{2,4000}")


@dataclass(frozen=True)
class BrokerAccess:
    """Where the broker is and which file holds the identity token to show it."""

    url: str
    identity_token_file: Path


class TokenBrokerHook(BaseHook):
    """`token_broker_conn_id` names a connection of type `gdi_token_broker` (host = the broker's URL, extra
    `{"identity_token_file": path}`; its form is in provider.py).

    Without one, `GDI_BROKER_URL` and `GDI_IDENTITY_TOKEN_FILE` are used. Calls are repeated while the broker is away,
    for `GDI_BROKER_PATIENCE` seconds.
    """

    conn_name_attr = "token_broker_conn_id"
    default_conn_name = "gdi_token_broker_default"
    conn_type = TYPE
    hook_name = "GDI token broker"

    def __init__(self, token_broker_conn_id: str | None = None) -> None:
        super().__init__()
        self.token_broker_conn_id = token_broker_conn_id
        self._client: BrokerClient | None = None

    def access(self) -> BrokerAccess:
        """From the connection or the settings. SettingsError naming what is missing."""
        if self.token_broker_conn_id:
            return _of_connection(self.get_connection(self.token_broker_conn_id))
        return _of_settings()

    async def aaccess(self) -> BrokerAccess:
        if self.token_broker_conn_id:
            return _of_connection(await self.aget_connection(self.token_broker_conn_id))
        return _of_settings()

    def get_conn(self) -> BrokerClient:
        if self._client is None:
            tracing.enter(_airflow_trace())
            access = self.access()
            self._client = BrokerClient(access.url, token_file(access.identity_token_file))
        return self._client

    async def aget_conn(self) -> AsyncBrokerClient:
        """A client for a trigger's event loop; the caller closes it."""
        access = await self.aaccess()
        return AsyncBrokerClient(access.url, token_file(access.identity_token_file))

    def test_connection(self) -> tuple[bool, str]:
        """The *Test* button: whether the broker answers here and takes our identity token. Asks about a run that cannot
        be, which changes nothing.

        What the file holds is sent only where it looks like a token, so that the form cannot be used to send another
        file somewhere.
        """
        try:
            access = self.access()
            token = access.identity_token_file.read_text(errors="replace").strip()
            if not JWT.fullmatch(token):
                return (
                    False,
                    (
                        f"{access.identity_token_file} holds no JSON Web Token. It must be the workload identity token"
                        " that the platform writes."
                    ),
                )
            with BrokerClient(access.url, lambda: token) as client:
                client.get_run("r-" + "0" * 20)
        except SettingsError as error:
            return False, str(error)
        except OSError as error:
            return (
                False,
                (
                    f"The identity token cannot be read here: {error.strerror}: {error.filename}. The api-server, which"
                    " asks, needs the file too."
                ),
            )
        except ProblemError as error:
            if error.problem.status == 404:
                return True, "The broker answers and knows this Airflow by its identity token."
            if error.problem.status in (401, 403):
                return (
                    False,
                    (
                        f"The broker answers but does not accept this Airflow ({short(error)}). Is its issuer and"
                        " service account enrolled there?"
                    ),
                )
            return False, f"What answers there is no broker, or a broken one: {short(error)}"
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            return False, f"The broker does not answer: {short(error)}"
        return True, "The broker answers."

    def close(self) -> None:
        if self._client is not None:
            self._client.close()
            self._client = None

    def call(self, what: str, call: Callable[[BrokerClient], T], *, patience: float | None = None) -> T:
        """`call(client)`, repeated while the broker is away. ProblemError for a refusal, httpx.TransportError after too
        long.
        """
        return with_retry(
            f"The broker ({what})",
            lambda: call(self.get_conn()),
            seconds=settings().broker_patience if patience is None else patience,
        )

    # --- what the operators ask ------------------------------------------------------------------

    def admit(self, request: m.AdmitRequest) -> m.Run:
        return self.call("admit", lambda c: c.admit(request))

    def get_run(self, run: str) -> m.Run | None:
        """The run, or None where the broker does not know it."""
        try:
            return self.call("look at run", lambda c: c.get_run(run))
        except ProblemError as error:
            if error.problem.status == 404:
                return None
            raise

    def close_run(self, run: str, request: m.CloseRequest) -> m.Run:
        return self.call("close run", lambda c: c.close_run(run, request))

    def open_runs(self, *, after: str = "") -> list[m.Run]:
        """A page of the runs that are open, by id, behind the id `after`; empty at the end."""
        return self.call("list open runs", lambda c: c.open_runs(after=after)).runs

    def late_parts(self) -> list[o.LatePart]:
        """Parts of closed runs that came late, or will not come any more."""
        return self.call("ask for late parts", lambda c: c.late_parts()).parts

    def forget_late_part(self, run: str, node: str, attempt: int) -> None:
        self.call("forget a late part", lambda c: c.forget_late_part(run, node, attempt))

    def due_starts(self) -> list[m.DueStart]:
        """What is to be started now, each with a ticket. Never store, log or return one from an operator."""
        return self.call("ask what is due", lambda c: c.due_starts()).starts

    def report_start(self, report: m.StartReport) -> None:
        self.call("report a start", lambda c: c.report_start(report))

    def put_workload(self, run: str, pod: str, request: m.WorkloadRequest) -> m.Workload:
        return self.call("register pod", lambda c: c.put_workload(run, pod, request))

    def progress(self, run: str) -> m.Progress:
        return self.call("read progress", lambda c: c.progress(run))

    def post_events(self, run: str, batch: m.EventBatch) -> None:
        self.call("post event", lambda c: c.post_events(run, batch))

    def put_workflow(self, digest: str, body: bytes) -> None:
        self.call("upload workflow", lambda c: c.put_workflow(digest, body))

    def bring_workflows(self, catalogue: Path) -> list[str]:
        """Those of the catalogue that the broker had not; their names."""
        return self.call("bring the catalogue", lambda c: bring_workflows(c, catalogue), patience=0)

    def put_order(self, run: str, node: str, kind: o.OrderKind, request: o.OrderRequest) -> o.OrderStatus:
        return self.call("put order", lambda c: c.put_order(run, node, kind, request))

    def order(self, run: str, node: str, kind: o.OrderKind, attempt: int) -> o.OrderStatus:
        return self.call("look at order", lambda c: c.order(run, node, kind, attempt))

    def find_order(self, run: str, node: str, kind: o.OrderKind, attempt: int) -> o.OrderStatus | None:
        try:
            return self.order(run, node, kind, attempt)
        except ProblemError as error:
            if error.problem.status == 404:
                return None
            raise

    def cancel_order(self, run: str, node: str, kind: o.OrderKind, attempt: int, reason: str) -> o.OrderStatus:
        return self.call("cancel order", lambda c: c.cancel_order(run, node, kind, attempt, reason))

    def run_token(self, run: str, audience: str, scope: AirflowsScope, *, min_ttl: float = 60) -> str:
        """A run token for one gateway and one purpose. Never store, log or return it from an operator."""
        request = m.TokenRequest(audience=audience, min_ttl=min_ttl, scope=scope)
        return self.call("run token", lambda c: c.token(run, request)).token


def _of_settings() -> BrokerAccess:
    found = settings()
    if not found.broker_url:
        raise SettingsError(
            "GDI_BROKER_URL is not set for Airflow's processes, and the task names no connection (token_broker_conn_id)"
        )
    return BrokerAccess(found.broker_url, found.need("identity_token_file"))


def _of_connection(connection: Any) -> BrokerAccess:  # airflow.sdk.Connection
    extra = connection.extra_dejson or {}
    if not connection.host or not extra.get("identity_token_file"):
        raise SettingsError(
            f"connection {connection.conn_id}: host (the broker's URL) and extra identity_token_file must be set"
        )
    host = str(connection.host)
    url = (
        host
        if "://" in host
        else f"{connection.schema or 'https'}://{host}" + (f":{connection.port}" if connection.port else "")
    )
    return BrokerAccess(url, Path(str(extra["identity_token_file"])))


def _airflow_trace() -> str:
    """The traceparent of this task's span, where Airflow's own tracing is on (`[traces] otel_on`)."""
    from airflow.configuration import conf

    if not conf.getboolean("traces", "otel_on", fallback=False):
        return ""
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    carrier: dict[str, str] = {}
    TraceContextTextMapPropagator().inject(carrier)
    return carrier.get(tracing.HEADER, "")
