"""A small client of the broker's API: sync (Airflow operators, command line) and async (gateways, triggers, Snakemake's
plugins).

Errors become ProblemError with the broker's own `type`, detail and what to do.
"""

from __future__ import annotations

from typing import Any, TypeVar

import httpx
from pydantic import BaseModel, ValidationError

from gdi.contracts import broker_api as m
from gdi.contracts import nodes as n
from gdi.contracts import orders as o
from gdi.contracts import round_messages as r
from gdi.contracts.beacon import VariantAnswer, VariantQuestion
from gdi.kit import tracing
from gdi.kit.bearer import BearerAuth, Credential
from gdi.kit.bounded_read import BoundedAsyncClient, BoundedClient
from gdi.kit.problem import Problem, ProblemError
from gdi.kit.tls import authorities

M = TypeVar("M", bound=BaseModel)
OF_ANY_HOP = frozenset({408, 411, 413, 414, 425, 429, 431})
TIMEOUT = httpx.Timeout(30, connect=5)
LIMITS = httpx.Limits(
    max_connections=100, max_keepalive_connections=20, keepalive_expiry=2
)  # s; well before the 5 after which servers close idle ones


def read(answer: httpx.Response, model: type[M]) -> M:
    """The answer as `model`; ProblemError where the server refused or answered nonsense."""
    if answer.is_success:
        try:
            return model.model_validate_json(answer.content or b"{}")
        except ValidationError:
            raise ProblemError(
                502, "bad-answer", f"{answer.request.url.path} answered something that is not a {model.__name__}."
            ) from None
    raise as_problem(answer)


def as_problem(answer: httpx.Response) -> ProblemError:
    """The server's own words. Whatever has none of them is `http-error`: by its status where any hop may say that (it
    is too much, too often, away), else 502, since a proxy's 403 or 404 is no word about a run, a release or a token.
    """
    try:
        problem = Problem.model_validate_json(answer.content)
    except ValidationError:
        status, path = answer.status_code, answer.request.url.path
        if status >= 500 or status in OF_ANY_HOP or answer.request.method == "HEAD":
            return ProblemError(status, "http-error", f"{path} answered {status}.", action="See the server's log.")
        return ProblemError(
            502,
            "http-error",
            f"{path} answered {status}, but not in the server's own words.",
            action="Look at the address, and at what stands before the server (a proxy's page, it may be).",
        )
    error = ProblemError(answer.status_code, problem.slug, problem.detail, action=problem.action, title=problem.title)
    error.problem = problem
    return error


def _body(model: BaseModel | None) -> dict[str, Any] | None:
    return None if model is None else model.model_dump(mode="json", exclude_none=True)


class BrokerClient:
    """The broker, synchronously. `credential` gives the bearer token: a user's access token, a workload's identity
    token, a gateway's assertion.
    """

    def __init__(self, url: str, credential: Credential, *, transport: httpx.BaseTransport | None = None) -> None:
        self._http = BoundedClient(
            base_url=url,
            auth=BearerAuth(credential),
            timeout=TIMEOUT,
            limits=LIMITS,
            transport=transport,
            verify=authorities(),
            event_hooks={"request": [tracing.add_header]},
        )

    def __enter__(self) -> BrokerClient:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._http.close()

    def _send(self, model: type[M], method: str, path: str, body: BaseModel | None = None, **query: Any) -> M:
        return read(self._http.request(method, path, json=_body(body), params=query or None), model)

    def create_grant(self, request: m.GrantRequest) -> m.Grant:
        return self._send(m.Grant, "POST", "/v1/grants", request)

    def get_grant(self, grant: str) -> m.Grant:
        return self._send(m.Grant, "GET", f"/v1/grants/{grant}")

    def revoke_grant(self, grant: str) -> m.Grant:
        return self._send(m.Grant, "DELETE", f"/v1/grants/{grant}")

    def carriers(self, question: VariantQuestion) -> VariantAnswer:
        """Which nodes have carriers of a variant, by their public Beacons. Within some 10 s."""
        return self._send(VariantAnswer, "POST", "/v1/variants", question)

    def create_ticket(self, grant: str, request: m.TicketRequest) -> m.Ticket:
        return self._send(m.Ticket, "POST", f"/v1/grants/{grant}/tickets", request)

    def admit(self, request: m.AdmitRequest) -> m.Run:
        return self._send(m.Run, "POST", "/v1/runs", request)

    def get_run(self, run: str) -> m.Run:
        return self._send(m.Run, "GET", f"/v1/runs/{run}")

    def open_runs(self, *, after: str = "") -> m.OpenRuns:
        return self._send(m.OpenRuns, "GET", "/v1/runs", after=after)

    def due_starts(self) -> m.DueStarts:
        return self._send(m.DueStarts, "POST", "/v1/schedules/due")

    def report_start(self, report: m.StartReport) -> None:
        answer = self._http.post("/v1/schedules/starts", json=_body(report))
        if not answer.is_success:
            raise as_problem(answer)

    def close_run(self, run: str, request: m.CloseRequest) -> m.Run:
        return self._send(m.Run, "DELETE", f"/v1/runs/{run}", request)

    def late_parts(self) -> o.LateParts:
        return self._send(o.LateParts, "GET", "/v1/late-parts")

    def forget_late_part(self, run: str, node: str, attempt: int) -> None:
        answer = self._http.delete(f"/v1/runs/{run}/late-parts/{node}", params={"attempt": attempt})
        if not answer.is_success:
            raise as_problem(answer)

    def put_workload(self, run: str, pod: str, request: m.WorkloadRequest) -> m.Workload:
        return self._send(m.Workload, "PUT", f"/v1/runs/{run}/workloads/{pod}", request)

    def token(self, run: str, request: m.TokenRequest) -> m.Token:
        return self._send(m.Token, "POST", f"/v1/runs/{run}/tokens", request)

    def post_events(self, run: str, batch: m.EventBatch) -> None:
        answer = self._http.post(f"/v1/runs/{run}/events", json=_body(batch))
        if not answer.is_success:
            raise as_problem(answer)

    def events(self, run: str, *, after: int = 0, limit: int = 500) -> m.EventPage:
        return self._send(m.EventPage, "GET", f"/v1/runs/{run}/events", after=after, limit=limit)

    def progress(self, run: str) -> m.Progress:
        return self._send(m.Progress, "GET", f"/v1/runs/{run}/progress")

    def jobs(self, run: str, *, after: int = 0) -> m.JobPage:
        return self._send(m.JobPage, "GET", f"/v1/runs/{run}/jobs", after=after)

    def audit(self, run: str) -> m.AuditPage:
        return self._send(m.AuditPage, "GET", "/v1/audit", run=run)

    def put_order(self, run: str, node: str, kind: o.OrderKind, request: o.OrderRequest) -> o.OrderStatus:
        return self._send(o.OrderStatus, "PUT", f"/v1/runs/{run}/orders/{node}/{kind}", request)

    def order(self, run: str, node: str, kind: o.OrderKind, attempt: int) -> o.OrderStatus:
        return self._send(o.OrderStatus, "GET", f"/v1/runs/{run}/orders/{node}/{kind}", attempt=attempt)

    def cancel_order(self, run: str, node: str, kind: o.OrderKind, attempt: int, why: str) -> o.OrderStatus:
        path = f"/v1/runs/{run}/orders/{node}/{kind}"
        return self._send(o.OrderStatus, "DELETE", path, attempt=attempt, why=why)

    def put_question(self, run: str, node: str, number: int, question: r.RoundQuestion) -> r.RoundStatus:
        body = question.model_dump(mode="json")  # with a broadcast that is None: that is an end
        return read(self._http.put(f"/v1/runs/{run}/rounds/{node}/{number}", json=body), r.RoundStatus)

    def round(self, run: str, node: str, number: int, attempt: int) -> r.RoundStatus:
        return self._send(r.RoundStatus, "GET", f"/v1/runs/{run}/rounds/{node}/{number}", attempt=attempt)

    def put_workflow(self, digest: str, body: bytes) -> None:
        """The files of a workflow, as `gdi.contracts.packed_workflow` makes them."""
        answer = self._http.put(f"/v1/workflows/{digest}", content=body)
        if not answer.is_success:
            raise as_problem(answer)

    def missing_workflows(self, digests: list[str]) -> list[str]:
        """Of these at most MAX_WORKFLOWS versions those whose files the broker has not."""
        request = o.WorkflowDigests(digests=digests)
        return self._send(o.WorkflowDigests, "POST", "/v1/workflows/missing", request).digests

    def nodes(self) -> n.Nodes:
        return self._send(n.Nodes, "GET", "/v1/nodes")

    def preflight(self, request: n.PreflightRequest) -> n.PreflightAnswer:
        return self._send(n.PreflightAnswer, "POST", "/v1/preflight", request)


class AsyncBrokerClient:
    """The broker, asynchronously; the calls that gateways, triggers and Snakemake's plugins make."""

    def __init__(self, url: str, credential: Credential, *, transport: httpx.AsyncBaseTransport | None = None) -> None:
        self._http = BoundedAsyncClient(
            base_url=url,
            auth=BearerAuth(credential),
            timeout=TIMEOUT,
            limits=LIMITS,
            transport=transport,
            verify=authorities(),
            event_hooks={"request": [tracing.aadd_header]},
        )

    async def __aenter__(self) -> AsyncBrokerClient:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        await self._http.aclose()

    async def _send(self, model: type[M], method: str, path: str, body: BaseModel | None = None, **query: Any) -> M:
        return read(await self._http.request(method, path, json=_body(body), params=query or None), model)

    async def nodes(self) -> n.Nodes:
        return await self._send(n.Nodes, "GET", "/v1/nodes")

    async def get_run(self, run: str) -> m.Run:
        return await self._send(m.Run, "GET", f"/v1/runs/{run}")

    async def get_traced_run(self, run: str) -> tuple[m.Run, str]:
        """With its traceparent, which a gateway gets as a header, empty where it has none."""
        answer = await self._http.get(f"/v1/runs/{run}")
        return read(answer, m.Run), tracing.valid(answer.headers.get(tracing.HEADER))

    async def token(self, run: str, request: m.TokenRequest) -> m.Token:
        return await self._send(m.Token, "POST", f"/v1/runs/{run}/tokens", request)

    async def node_token(self, run: str, request: m.NodeTokenRequest) -> m.Token:
        return await self._send(m.Token, "POST", f"/v1/runs/{run}/node-tokens", request)

    async def post_events(self, run: str, batch: m.EventBatch) -> None:
        answer = await self._http.post(f"/v1/runs/{run}/events", json=_body(batch))
        if not answer.is_success:
            raise as_problem(answer)

    async def events(self, run: str, *, after: int = 0, limit: int = 500) -> m.EventPage:
        return await self._send(m.EventPage, "GET", f"/v1/runs/{run}/events", after=after, limit=limit)

    async def progress(self, run: str) -> m.Progress:
        return await self._send(m.Progress, "GET", f"/v1/runs/{run}/progress")

    async def jobs(self, run: str, *, after: int = 0, limit: int = 2000) -> m.JobPage:
        return await self._send(m.JobPage, "GET", f"/v1/runs/{run}/jobs", after=after, limit=limit)

    async def cancel_order(self, run: str, node: str, kind: o.OrderKind, attempt: int, why: str) -> o.OrderStatus:
        path = f"/v1/runs/{run}/orders/{node}/{kind}"
        return await self._send(o.OrderStatus, "DELETE", path, attempt=attempt, why=why)

    async def round(self, run: str, node: str, number: int, attempt: int, *, wait: float = 0) -> r.RoundStatus:
        """As soon as the node has answered, or after `wait` seconds without."""
        path, query = f"/v1/runs/{run}/rounds/{node}/{number}", {"attempt": attempt, "wait": wait}
        return read(
            await self._http.get(path, params=query, timeout=httpx.Timeout(wait + 15, connect=5)), r.RoundStatus
        )

    async def audit(self, run: str) -> m.AuditPage:
        return await self._send(m.AuditPage, "GET", "/v1/audit", run=run)
