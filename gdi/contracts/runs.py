"""The broker's API on runs and their workloads. Times are seconds since the epoch (UTC) as floats."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, JsonValue, SerializerFunctionWrapHandler, model_serializer

from gdi.contracts.committees import Departure
from gdi.contracts.ids import AirflowId, DatasetId, Digest, GrantId, Label, NodeId, PodName, RunId, Text, WorkflowName
from gdi.contracts.parameters import Parameters
from gdi.kit.models import Strict

Placement = Literal["node", "coordinator"]
RunState = Literal["open", "closed"]
Outcome = Literal["success", "failed", "cancelled"]


class AdmitRequest(Strict):
    """`POST /v1/runs` by Airflow's workload. Idempotent on (dag_id, dag_run_id, attempt).

    Exactly one of `ticket` and `grant` for the first attempt; `triggering_user` is whom Airflow authenticated (needed
    with `grant`). A later attempt of a known run needs neither. `parameters` is all of `conf` but ticket and grant.
    `run_after`: when the run was to begin at the earliest, which is when Airflow took it unless somebody chose a time.
    """

    dag_id: AirflowId
    dag_run_id: AirflowId
    attempt: int = Field(ge=1, le=10_000)
    workflow: WorkflowName
    digest: Digest
    parameters: Parameters
    ticket: Annotated[str, Field(max_length=200)] | None = None
    grant: GrantId | None = None
    triggering_user: Label | None = None
    run_after: float | None = Field(default=None, allow_inf_nan=False)


class PlanItem(Strict):
    """What one node does in a run. `access_ends_at`: the first visa to end. `public_key`: the node's JWK, with which
    its releases are signed; `other_keys`: of before or after a change of keys, left out where there are none (a gateway
    of before does not know them). `placement`: who starts Snakemake.
    """

    node: NodeId
    datasets: list[DatasetId]
    access_ends_at: float
    gateway_url: str
    audience: str
    public_key: dict[str, Any]
    placement: Placement = "coordinator"
    other_keys: list[dict[str, Any]] = Field(default_factory=list, max_length=3)

    @model_serializer(mode="wrap")
    def _without_none(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        found: dict[str, Any] = handler(self)
        if not found.get("other_keys"):
            found.pop("other_keys", None)
        return found


class Failing(Strict):
    """Why a run cannot succeed any more: the node that failed first and the reason, fit for a user's eyes."""

    node: NodeId
    reason: Text
    dataset: DatasetId | None = None


class Run(Strict):
    """A run as the broker knows it. `failing` is set by the first node that failed and that it needs; the others stop
    for it. `needed`: which nodes must answer (`gdi.contracts.needed`).
    """

    id: RunId
    dag_id: str
    dag_run_id: str
    attempt: int
    state: RunState
    outcome: Outcome | Literal[""] = ""
    workflow: WorkflowName
    digest: Digest
    user: Label
    datasets: list[DatasetId]
    plan: list[PlanItem]
    failing: Failing | None = None
    needed: JsonValue = None
    opened_at: float
    closed_at: float | None = None


class OpenRuns(Strict):
    """`GET /v1/runs`: runs that are open, oldest first, at most 1,000 after `after` (an id)."""

    runs: list[Run]


class CloseRequest(Strict):
    """`DELETE /v1/runs/{id}`, Airflow's workload: the attempt ends with this outcome. Closing twice is no error.
    `released`: what left each node in it. `late`: nodes that the answer was made without, and whose orders go on until
    their own deadline.
    """

    attempt: int = Field(ge=1)
    outcome: Outcome
    released: list[Departure] = Field(default_factory=list, max_length=2000)
    late: Annotated[list[NodeId], Field(max_length=1000)] | None = None


class WorkloadRequest(Strict):
    """`PUT /v1/runs/{id}/workloads/{pod}`: first without `uid` (before the pod is made), then with it (before its first
    token).
    """

    node: NodeId
    attempt: int = Field(ge=1)
    uid: Annotated[str, Field(max_length=100, pattern=r"^[^\x00]*$")] | None = None


class Workload(Strict):
    """`generation` counts a node's workloads in a run; a higher one fences those before it, at the broker and at the
    gateway.
    """

    pod: PodName
    node: NodeId
    attempt: int
    uid: str | None
    generation: int
