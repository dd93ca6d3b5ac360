"""What happens in a run: events as they are sent, stored and read. Times are seconds since the epoch (UTC)."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from gdi.contracts.ids import Label, NodeId, PodName
from gdi.contracts.jobs import JobFacts, JobState
from gdi.contracts.orders import OrderKind, OrderState
from gdi.contracts.runs import RunState
from gdi.kit.models import Strict


class Event(JobFacts):
    """One thing that happened, from one source. `seq` starts at 1 and grows by one for each source; a repeated seq is
    dropped.

    kinds: `rules` (what the workflow will run: `counts` = {rule: jobs}), `job` (a job's state changed, or with no
    state: what it used, `usage`), `progress`, `node` (state of the node's part), `note`, `order` (how an order changed:
    `order`, `order_state`, why in `message`; the broker's own). `usage`: seconds `queued_s`,
    `total_s`, `command_s`; `cores`, `ram_gb`, `disk_gb` asked for; `output_bytes`. `message` and `dataset` are also a
    node's or a note's.
    """

    seq: int = Field(ge=1)
    time: float
    kind: Literal["rules", "job", "progress", "node", "note", "order"]
    rule: Label | None = None
    job: Label | None = None
    state: JobState | Literal["starting", "success"] | None = None
    done: int | None = Field(default=None, ge=0)
    total: int | None = Field(default=None, ge=0)
    counts: dict[Label, Annotated[int, Field(ge=0)]] = Field(default_factory=dict, max_length=2000)
    order: OrderKind | None = None
    order_state: OrderState | None = None
    usage: dict[Label, Annotated[float, Field(ge=0, allow_inf_nan=False)]] = Field(default_factory=dict, max_length=20)


class EventBatch(Strict):
    """`POST /v1/runs/{id}/events`. `source` names the writer (a pod, or `airflow`); the broker sets the node from who
    the writer is.

    Airflow's workload may name the node it speaks for.
    """

    source: PodName
    node: NodeId | None = None
    events: list[Event] = Field(min_length=1, max_length=500)


class StoredEvent(Event):
    """An event with the run-wide number the broker gave it."""

    number: int
    node: NodeId | None
    source: str
    attempt: int


class EventPage(Strict):
    events: list[StoredEvent]
    next_after: int
    run_state: RunState
