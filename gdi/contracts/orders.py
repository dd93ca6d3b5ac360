"""Orders: what the coordinator asks a node's own agent to do, and what the agent says of it. Times are seconds since
the epoch (UTC). How an order changes is `order_table`.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, Field, SerializerFunctionWrapHandler, model_serializer

from gdi.contracts.gateway_api import Released, ReleaseRequest
from gdi.contracts.ids import DatasetId, Digest, Label, NodeId, RunId, Text, WorkflowName
from gdi.contracts.parameters import Parameters
from gdi.contracts.runs import Run
from gdi.kit.jose import SigningKey
from gdi.kit.models import Strict

TYPE = "order+jwt"  # `typ` of a signed order's header
QUESTION_TYPE = "preflight+jwt"  # and of a question whether it would be admitted
OrderKind = Literal["analyse", "round", "release", "close"]
OrderState = Literal["waiting", "taken", "running", "succeeded", "failed", "refused", "cancelled", "expired"]
ORDER_STATES: tuple[OrderState, ...] = get_args(OrderState)
ENDED_ORDER: tuple[OrderState, ...] = ("succeeded", "failed", "refused", "cancelled", "expired")
# Why a node does not do what it was asked. The list is closed: a new one needs a version of both sides.
OrderReason = Literal[
    "bad-order",  # not signed by the broker, for another node, or not to be read
    "order-expired",
    "order-replayed",
    "order-older",  # a later attempt was taken here
    "order-differs",  # an earlier attempt of the run was of other datasets, parameters or people
    "placement",  # the node's policy starts no Snakemake of its own
    "workflow-away",  # its files could not be had
    "workflow-files",  # they have another digest, or are not a workflow
    "workflow-blocked",
    "workflow-not-approved",
    "parameters",
    "dataset-unknown",
    "not-open",  # the node's operator opened nothing such: no epoch, or no people told apart
    "no-visa",
    "visa-expired",
    "visa-untrusted",
    "visa-invalid",
    "visa-issuer-away",
    "user-vetoed",
    "organisation-vetoed",
    "project-vetoed",
    "release-unknown",  # the workflow declares no such release
    "node-busy",
]
ORDER_REASONS: tuple[OrderReason, ...] = get_args(OrderReason)
Jws = Annotated[str, Field(max_length=20_000, pattern=r"^[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+$")]
Nonce = Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")]
MAX_ORDER = 8 * 1024 * 1024  # bytes of a signed order: parameters, visas and approvals at their largest
LEASE = 60.0  # seconds for which an order belongs to who took it, unless it is heard of again


class OrderRequest(Strict):
    """`PUT /v1/runs/{run}/orders/{node}/{kind}` by Airflow's workload. The same body again changes nothing, another one
    is 409. `parameters`: the run's conf without ticket and grant; `version`: the workflow's; `approvals`: the
    reviewers' signatures (JWS) over the workflow; `releases`: what a `release` order asks for. `deadline`: when the
    node stops by its own clock.
    """

    attempt: int = Field(ge=1, le=10_000)
    deadline: float = Field(gt=0, allow_inf_nan=False)
    version: Annotated[str, Field(max_length=50)] = ""
    parameters: Parameters = Field(default_factory=dict)
    releases: list[ReleaseRequest] = Field(default_factory=list, max_length=20)
    approvals: list[Jws] = Field(default_factory=list, max_length=20)


class OrderStatus(Strict):
    """An order as the broker last heard of it. `cancelling`: why its end was asked for. `reason` is one of
    `OrderReason` where it was refused; `detail` a sentence. `released`: what left, and lies in the coordinator's store.
    """

    run: RunId
    node: NodeId
    kind: OrderKind
    attempt: int
    state: OrderState
    generation: int = 0
    cancelling: Text = ""
    reason: Label = ""
    detail: Text = ""
    deadline: float
    changed_at: float = 0
    released: list[Released] = Field(default_factory=list, max_length=20)


class QuestionClaims(BaseModel):
    """What a node judges, signed by the broker: beside `iss` (the broker's public URL), `aud` (the node's id), `iat`
    and `exp`. `jti` serves once at the node. `visas` are the signed JWTs that speak for `sub`.
    """

    jti: Nonce
    sub: Annotated[str, Field(min_length=1, max_length=255)]
    node: NodeId
    workflow: WorkflowName
    digest: Digest
    version: Annotated[str, Field(max_length=50)] = ""
    parameters: Parameters = Field(default_factory=dict)
    datasets: list[DatasetId] = Field(max_length=1000)
    visas: list[Jws] = Field(default_factory=list, max_length=200)
    approvals: list[Jws] = Field(default_factory=list, max_length=20)

    def sign(self, key: SigningKey, *, issuer: str, lifetime: float, typ: str = QUESTION_TYPE) -> str:
        claims = {**self.model_dump(mode="json"), "iss": issuer, "aud": self.node}
        return key.sign(claims, lifetime=lifetime, typ=typ)


class OrderClaims(QuestionClaims):
    """A signed order (`typ` `order+jwt`); `exp` is its deadline. `trace`: the run's W3C traceparent, or nothing."""

    run: RunId
    attempt: int = Field(ge=1, le=10_000)
    kind: OrderKind
    releases: list[ReleaseRequest] = Field(default_factory=list, max_length=20)
    deadline: float
    trace: Annotated[str, Field(max_length=100)] = ""

    @model_serializer(mode="wrap")
    def _without_no_trace(self, write: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """An order without a trace is what the first agents know."""
        claims: dict[str, Any] = write(self)
        if not self.trace:
            claims.pop("trace", None)
        return claims


class WorkItem(Strict):
    """An order for the node's agent: signed, and how it stands at the broker."""

    status: OrderStatus
    order: Annotated[str, Field(max_length=MAX_ORDER)]


class WorkQuestion(Strict):
    """A preflight that waits for the node's answer: `question` is signed (`QuestionClaims`)."""

    id: Nonce
    question: Annotated[str, Field(max_length=MAX_ORDER)]


class Work(Strict):
    """`GET /v1/nodes/{node}/work?after=&wait=`: orders of the node with news since `after`, those that are over left
    out. Ask again with `next_after`; `after=0` brings all.
    """

    items: list[WorkItem] = Field(default_factory=list, max_length=100)
    questions: list[WorkQuestion] = Field(default_factory=list, max_length=100)
    next_after: int


MAX_WORKFLOWS = 1000  # in one question


class WorkflowDigests(Strict):
    """`POST /v1/workflows/missing` by Airflow's workload: versions of workflows, and those of them whose files the
    broker has not.
    """

    digests: list[Digest] = Field(max_length=MAX_WORKFLOWS)


class OrderTake(Strict):
    """`POST /v1/runs/{run}/orders/{node}/{kind}/take` by the node."""

    attempt: int = Field(ge=1, le=10_000)
    nonce: Nonce


class OrderReport(Strict):
    """`POST /v1/runs/{run}/orders/{node}/{kind}/report` by the node: how it goes. Each prolongs the lease."""

    attempt: int = Field(ge=1, le=10_000)
    generation: int = Field(ge=1)
    state: Literal["running", "succeeded", "failed", "refused", "cancelled"]
    reason: Label = ""
    detail: Text = ""
    dataset: DatasetId | None = None
    released: list[Released] = Field(default_factory=list, max_length=20)


class LatePart(Strict):
    """A node whose part comes after its run was closed: its order `release`, as the broker last heard of it."""

    run: Run
    release: OrderStatus


class LateParts(Strict):
    """`GET /v1/late-parts` by Airflow's workload: those that have come, or will not come any more, oldest first."""

    parts: list[LatePart] = Field(default_factory=list, max_length=100)


class StoredRelease(Strict):
    """`GET|PUT /v1/runs/{run}/releases/{node}/{name}`: how many bytes of a pushed release the coordinator has."""

    offset: int = Field(ge=0)
    complete: bool
