"""Each call of the portal's API, as data: both clients send the same."""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar
from urllib.parse import quote

import httpx
from pydantic import BaseModel, JsonValue

from gdi.contracts import portal_api as p
from gdi.contracts.access import DatasetList, TokenOwner
from gdi.contracts.grants import Grant, GrantRequest
from gdi.kit.problem import ProblemError
from gdi.kit.retry import Failure, RetryPolicy

M = TypeVar("M", bound=BaseModel)
PATIENCE = RetryPolicy(total=60, first=0.5, longest=10)  # seconds, while the server is away
AGAIN = (429, 502, 503, 504)


@dataclass(frozen=True)
class Call(Generic[M]):
    """`safe`: may be sent twice."""

    model: type[M]
    method: str
    path: str
    body: BaseModel | None = None
    query: Mapping[str, Any] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    safe: bool = True

    def options(self) -> dict[str, Any]:
        """httpx's arguments."""
        body = None if self.body is None else self.body.model_dump(mode="json", exclude_none=True)
        query = {k: v for k, v in self.query.items() if v not in (None, (), [], "")}
        return {"json": body, "params": query or None, "headers": dict(self.headers)}

    def again(self, failure: Failure) -> bool:
        """Whether it is to be sent again: a server that is away, never a refusal."""
        error = failure.error
        if isinstance(error, ProblemError):
            return self.safe and error.problem.status in AGAIN
        return self.safe and isinstance(error, httpx.TransportError)


def me() -> Call[TokenOwner]:
    return Call(TokenOwner, "GET", "/v1/me")


def workflows() -> Call[p.WorkflowList]:
    return Call(p.WorkflowList, "GET", "/v1/workflows")


def workflow(name: str) -> Call[p.CatalogueWorkflow]:
    return Call(p.CatalogueWorkflow, "GET", f"/v1/workflows/{_part(name)}")


def datasets() -> Call[DatasetList]:
    return Call(DatasetList, "GET", "/v1/datasets")


def nodes() -> Call[p.NodeList]:
    return Call(p.NodeList, "GET", "/v1/nodes")


def preflight(workflow: str, datasets: Sequence[str], parameters: Mapping[str, JsonValue]) -> Call[p.StartChecked]:
    body = p.StartCheck(workflow=workflow, datasets=list(datasets), parameters=dict(parameters))
    return Call(p.StartChecked, "POST", "/v1/preflight", body)


def grants() -> Call[p.GrantList]:
    return Call(p.GrantList, "GET", "/v1/grants")


def create_grant(request: GrantRequest) -> Call[Grant]:
    return Call(Grant, "POST", "/v1/grants", request, safe=False)


def revoke_grant(grant: str) -> Call[Grant]:
    return Call(Grant, "DELETE", f"/v1/grants/{_part(grant)}")


def start(
    workflow: str,
    datasets: Sequence[str],
    parameters: Mapping[str, JsonValue] | None,
    *,
    consent_days: float | None,
    once: bool,
    grant: str | None,
    tags: Mapping[str, str] | None,
    key: str | None,
) -> Call[p.RunStarted]:
    """With a key of its own: sent again while the server is away, it is one run."""
    consent = None
    if once or consent_days is not None:
        consent = p.Consent(days=1 if consent_days is None else consent_days, once=once)
    body = p.RunStart(
        workflow=workflow,
        datasets=list(datasets),
        parameters=dict(parameters or {}),
        consent=consent,
        grant=grant,
        tags=dict(tags or {}),
    )
    return Call(p.RunStarted, "POST", "/v1/runs", body, headers=_key(key))


def runs(
    *, states: Sequence[str], workflow: str | None, dataset: str | None, page_size: int, page_token: str
) -> Call[p.RunPage]:
    query = {
        "state": list(states),
        "workflow": workflow,
        "dataset": dataset,
        "page_size": page_size,
        "page_token": page_token,
    }
    return Call(p.RunPage, "GET", "/v1/runs", query=query)


def run(run: str) -> Call[p.RunEntry]:
    return Call(p.RunEntry, "GET", f"/v1/runs/{_part(run)}")


def cancel(run: str) -> Call[p.RunSummary]:
    return Call(p.RunSummary, "POST", f"/v1/runs/{_part(run)}/cancel")


def again(run: str, key: str | None) -> Call[p.RunStarted]:
    return Call(p.RunStarted, "POST", f"/v1/runs/{_part(run)}/again", headers=_key(key))


def jobs(run: str, after: int) -> Call[p.RunJobs]:
    return Call(p.RunJobs, "GET", f"/v1/runs/{_part(run)}/jobs", query={"after": after})


def results(run: str) -> Call[p.RunResults]:
    return Call(p.RunResults, "GET", f"/v1/runs/{_part(run)}/results")


def file_path(run: str, name: str) -> str:
    return f"/v1/runs/{_part(run)}/files/{quote(name)}"


def crate_path(run: str) -> str:
    return f"/v1/runs/{_part(run)}/crate"


def _part(text: str) -> str:
    return quote(text, safe="")


def _key(key: str | None) -> dict[str, str]:
    return {"Idempotency-Key": key or secrets.token_urlsafe(18)}
