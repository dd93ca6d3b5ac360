"""What has come of a run: its jobs, rules and nodes, summed from its events."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from gdi.contracts.ids import DatasetId, Label, NodeId, RunId, Text
from gdi.contracts.jobs import JobFacts, JobState
from gdi.contracts.orders import OrderStatus
from gdi.contracts.runs import Failing, Outcome, RunState
from gdi.kit.models import Strict

NodeState = Literal["waiting", "starting", "running", "success", "failed", "cancelled"]


class Job(JobFacts):
    """One job of the current attempt: the last that was reported of it. `started_at` of its first try."""

    node: NodeId
    job: Label
    rule: Label
    state: JobState
    submitted_at: float | None = None
    started_at: float | None = None
    ended_at: float | None = None


class JobPage(Strict):
    """`GET /v1/runs/{id}/jobs?after=`: jobs with news since that event number. A job may come again in a later page;
    the later word counts.
    """

    run: RunId
    attempt: int
    jobs: list[Job] = Field(default_factory=list)
    next_after: int
    more: bool = False


class RuleProgress(Strict):
    """One rule at one node; jobs by state add up to total. `started_at` of the first job, `ended_at` when none is
    left.
    """

    node: NodeId
    rule: Label
    total: int
    done: int = 0
    running: int = 0
    failed: int = 0
    started_at: float | None = None
    ended_at: float | None = None


class NodeProgress(Strict):
    node: NodeId
    state: NodeState
    done: int = 0
    total: int = 0
    message: Text = ""
    dataset: DatasetId | None = None


class Progress(Strict):
    """`GET /v1/runs/{id}/progress`: the sum of the events of the current attempt, by node and rule, in the order they
    were planned.
    """

    run: RunId
    attempt: int
    state: RunState
    outcome: Outcome | Literal[""] = ""
    failing: Failing | None = None
    nodes: list[NodeProgress]
    rules: list[RuleProgress]
    orders: list[OrderStatus] = Field(default_factory=list)
