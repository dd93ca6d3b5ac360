"""Nodes as the broker hears of them: status, and whether a run would be admitted there now. Times are seconds since the
epoch (UTC), durations seconds.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, JsonValue

from gdi.contracts.cohorts import EpochCohorts
from gdi.contracts.data_use import DuoCode
from gdi.contracts.ids import DatasetId, Digest, Label, NodeId, Text, WorkflowName
from gdi.contracts.orders import Jws, OrderReason, OrderState
from gdi.contracts.overlaps import Shared
from gdi.contracts.parameters import Parameters
from gdi.contracts.runs import Placement
from gdi.kit.models import Strict

NodeLife = Literal["up", "away", "never-seen"]
AWAY_AFTER = 90.0  # seconds without a heartbeat
HEARTBEAT_EVERY = 20.0
PREFLIGHT_WITHIN = 10.0
MAX_TERMS = 1000  # datasets whose terms a heartbeat tells
MAX_PREFLIGHTS_PER_HOUR = 30  # of a user


class Heartbeat(Strict):
    """`PUT /v1/nodes/{node}/status` by the node's agent. `health`: archive, tes, storage, database … as `ok` or what is
    wrong in a few words. `time`: by the node's clock. `limits`: what its policy does not allow, in sentences. `terms`:
    the data use terms of its datasets, as DUO codes, but of those that only a prefix describes. `cohorts`: what a run
    may name of each dataset's newest epoch.

    A field that is new may be left out by an older agent, and is left out for an older broker.
    """

    version: Annotated[str, Field(max_length=50)]
    placement: Placement
    time: float = Field(allow_inf_nan=False)
    health: dict[Label, Label] = Field(default_factory=dict, max_length=20)
    free_slots: int | None = Field(default=None, ge=0, le=1_000_000)
    limits: list[Label] = Field(default_factory=list, max_length=20)
    terms: dict[DatasetId, Annotated[list[DuoCode], Field(max_length=50)]] = Field(
        default_factory=dict, max_length=MAX_TERMS
    )
    cohorts: dict[DatasetId, EpochCohorts] = Field(default_factory=dict, max_length=1000)


class NodeStatus(Strict):
    """A node. `seen_at` is None where it was never seen; `clock_off`: by how many seconds its clock differs.
    `datasets`: what it may hold, ids or prefixes that end in `*`. `orders`: how many go on, by state. `limits`: what it
    does not allow, as it says itself.
    """

    node: NodeId
    life: NodeLife
    placement: Placement
    seen_at: float | None = None
    version: str = ""
    health: dict[str, str] = Field(default_factory=dict)
    free_slots: int | None = None
    clock_off: float | None = None
    gateway_url: str = ""
    datasets: list[str] = Field(default_factory=list)
    orders: dict[OrderState, int] = Field(default_factory=dict)
    limits: list[str] = Field(default_factory=list)


class Nodes(Strict):
    """`GET /v1/nodes`: all enrolled nodes by id. For users, Airflow and gateways."""

    nodes: list[NodeStatus]


class PreflightRequest(Strict):
    """`POST /v1/preflight` by a user: would a run be admitted, node by node? `digest`: that of the workflow's version,
    which the broker knows where it was uploaded; without it the version that was uploaded last. `approvals`: the
    reviewers' signatures over it, as an order has them; the node proves them.
    """

    workflow: WorkflowName
    parameters: Parameters = Field(default_factory=dict)
    datasets: list[DatasetId] = Field(min_length=1, max_length=1000)
    digest: Digest | None = None
    approvals: Annotated[list[Jws], Field(max_length=20)] | None = None


class PreflightReply(Strict):
    """`POST /v1/preflights/{id}/{node}` by the node. `queued`: orders before this one; `expected`: seconds until it
    would begin, where that is known. `overlaps`: datasets elsewhere that have some of the same people.
    """

    admitted: bool
    reason: OrderReason | Literal[""] = ""
    detail: Text = ""
    queued: int | None = Field(default=None, ge=0)
    expected: float | None = Field(default=None, ge=0)
    overlaps: Shared = Field(default_factory=list, exclude_if=lambda overlaps: not overlaps)


class NodePreflight(Strict):
    """One node's answer. `admitted` is None where the node did not answer in time (`life`, `seen_at` say since when) or
    cannot be asked (`placement: coordinator`).
    """

    node: NodeId
    datasets: list[DatasetId]
    life: NodeLife
    seen_at: float | None = None
    placement: Placement
    admitted: bool | None = None
    reason: Label = ""
    detail: Text = ""
    queued: int | None = None
    expected: float | None = None
    overlaps: Shared = Field(default_factory=list, exclude_if=lambda overlaps: not overlaps)


class PreflightAnswer(Strict):
    """By node. `refusals` are datasets that no node holds, or that the broker itself finds no visa for."""

    nodes: list[NodePreflight]
    refusals: list[dict[str, JsonValue]] = Field(default_factory=list)
