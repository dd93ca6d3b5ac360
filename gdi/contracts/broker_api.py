"""The types of the broker's API, version 1. Times are seconds since the epoch (UTC) as floats; durations are
seconds.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, JsonValue

from gdi.kit.canonical import sha256_hex
from gdi.kit.models import Strict

DatasetId = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._:-]{0,127}$")]
NodeId = Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]{0,30}$")]
RunId = Annotated[str, Field(pattern=r"^r-[0-9a-f]{20}$")]
GrantId = Annotated[str, Field(pattern=r"^g-[0-9a-f]{32}$")]
PodName = Annotated[str, Field(pattern=r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$")]
WorkflowName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]{0,62}$")]
Digest = Annotated[str, Field(pattern=r"^sha256:[0-9a-f]{64}$")]
Text = Annotated[str, Field(max_length=2000)]
Label = Annotated[str, Field(max_length=255)]
AirflowId = Annotated[
    str, Field(max_length=250, pattern=r"^[^\x00]*$")
]  # any text that every database can hold: PostgreSQL's has no NUL


# --- grants and tickets -------------------------------------------------------------------------


class Schedule(Strict):
    """When a standing grant starts its workflow by itself. `cron`: five fields, in `timezone` (IANA); `parameters` as
    in `conf`, with `datasets`.

    `catch_up` after downtime: every missed start, only the latest one, or none.
    """

    workflow: WorkflowName
    parameters: dict[str, JsonValue]
    cron: Annotated[str, Field(max_length=200)]
    timezone: Annotated[str, Field(max_length=64)] = "UTC"
    catch_up: Literal["all", "latest", "none"] = "latest"


class ScheduleState(Schedule):
    """`stopped` for good, with the reason: access or consent ended. `next_due` None: it never comes again."""

    state: Literal["active", "stopped"]
    reason: Text = ""
    next_due: float | None = None
    last_due: float | None = None


class GrantRequest(Strict):
    """`POST /v1/grants`, `Authorization: Bearer <the user's LS AAI access token>`: consent to these workflows on these
    datasets until then.
    """

    workflows: list[WorkflowName] = Field(min_length=1, max_length=100)
    datasets: list[DatasetId] = Field(min_length=1, max_length=1000)
    expires_at: float
    mode: Literal["once", "standing"] = "standing"
    label: Label = ""
    schedule: Schedule | None = None


class Grant(Strict):
    """A grant as its owner sees it; nothing secret. `once`: good for a single run. `state` says why it no longer
    serves.
    """

    id: GrantId
    user: Label
    workflows: list[WorkflowName]
    datasets: list[DatasetId]
    created_at: float
    expires_at: float
    mode: Literal["once", "standing"]
    label: Label = ""
    state: Literal["active", "revoked", "expired", "dead", "used"]
    detail: Text = ""
    refreshes: int = 0
    schedule: ScheduleState | None = None


class TicketRequest(Strict):
    """`POST /v1/grants/{id}/tickets`. `parameters` holds everything that `conf` will hold but the ticket: `{"datasets":
    [...], ...}`.

    `dag_run_id`, where given, makes the ticket worthless for any other Airflow run.
    """

    workflow: WorkflowName
    parameters: dict[str, JsonValue]
    dag_run_id: AirflowId | None = None


class Ticket(Strict):
    """`ticket` is the secret that goes into `conf`: 256 random bits, `gdit_…`, good once."""

    ticket: str
    expires_at: float


class DueStart(Strict):
    """One start that is due: a DAG run of `workflow` with this very run id and `{**parameters, "ticket": ticket}` as
    its conf. `user`: the grant's owner.
    """

    grant: GrantId
    user: Label = ""
    due: float
    workflow: WorkflowName
    parameters: dict[str, JsonValue]
    dag_run_id: AirflowId
    ticket: str = Field(repr=False)


class DueStarts(Strict):
    """`POST /v1/schedules/due`, Airflow's workload: what is to be started now. What is not reported within two minutes
    is handed out again.
    """

    starts: list[DueStart] = Field(default_factory=list)


class StartReport(Strict):
    """`POST /v1/schedules/starts`: the run is there (also where it was before), or can never be."""

    grant: GrantId
    due: float
    outcome: Literal["started", "refused"]
    detail: Text = ""


class OpenRuns(Strict):
    """`GET /v1/runs`: runs that are open, oldest first, at most 1,000 after `after` (an id)."""

    runs: list[Run]


def run_id(dag_id: str, dag_run_id: str) -> str:
    """The broker's id of an Airflow run: anyone who knows the one knows the other; it is no secret."""
    return "r-" + sha256_hex(f"{dag_id}\0{dag_run_id}".encode())[:20]


# --- runs ---------------------------------------------------------------------------------------


class AdmitRequest(Strict):
    """`POST /v1/runs` by Airflow's workload. Idempotent on (dag_id, dag_run_id, attempt).

    Exactly one of `ticket` and `grant` for the first attempt; `triggering_user` is whom Airflow authenticated (needed
    with `grant`). A later attempt of a known run needs neither. `parameters` is all of `conf` but ticket and grant.
    """

    dag_id: AirflowId
    dag_run_id: AirflowId
    attempt: int = Field(ge=1, le=10_000)
    workflow: WorkflowName
    digest: Digest
    parameters: dict[str, JsonValue]
    ticket: Annotated[str, Field(max_length=200)] | None = None
    grant: GrantId | None = None
    triggering_user: Label | None = None


class PlanItem(Strict):
    """What one node does in a run. `access_ends_at`: the first visa to end. `public_key`: the node's JWK, with which
    its releases are signed.
    """

    node: NodeId
    datasets: list[DatasetId]
    access_ends_at: float
    gateway_url: str
    audience: str
    public_key: dict[str, Any]


class Run(Strict):
    """A run as the broker knows it. `failing` is set by the first node that failed; the others stop for it."""

    id: RunId
    dag_id: str
    dag_run_id: str
    attempt: int
    state: Literal["open", "closed"]
    outcome: Literal["", "success", "failed", "cancelled"] = ""
    workflow: WorkflowName
    digest: Digest
    user: Label
    datasets: list[DatasetId]
    plan: list[PlanItem]
    failing: Failing | None = None
    opened_at: float
    closed_at: float | None = None


class Failing(Strict):
    """Why a run cannot succeed any more: the node that failed first and the reason, fit for a user's eyes."""

    node: NodeId
    reason: Text
    dataset: DatasetId | None = None


class CloseRequest(Strict):
    """`DELETE /v1/runs/{id}`, Airflow's workload: the attempt ends with this outcome. Closing twice is no error."""

    attempt: int = Field(ge=1)
    outcome: Literal["success", "failed", "cancelled"]


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


# --- tokens -------------------------------------------------------------------------------------


class TokenRequest(Strict):
    """`POST /v1/runs/{id}/tokens`. `audience` is a gateway's, from the plan. The answer lives at least `min_ttl`
    seconds or is an error that says why.
    """

    audience: Annotated[str, Field(max_length=300)]
    min_ttl: float = Field(default=60, ge=0, le=3600)


class NodeTokenRequest(Strict):
    """`POST /v1/runs/{id}/node-tokens` by an enrolled gateway: the user's access token for that node's `sda` or
    `tes`.
    """

    audience: Literal["sda", "tes"]
    min_ttl: float = Field(default=5, ge=0, le=3600)


class Token(Strict):
    """`token_type` is always `Bearer`; `expires_at` in epoch seconds."""

    token: str
    token_type: Literal["Bearer"] = "Bearer"  # noqa: S105
    expires_at: float


# --- events -------------------------------------------------------------------------------------

JOB_STATES = ("planned", "submitted", "queued", "running", "done", "failed", "cancelled")
JobState = Literal["planned", "submitted", "queued", "running", "done", "failed", "cancelled"]


class Event(Strict):
    """One thing that happened, from one source. `seq` starts at 1 and grows by one for each source; a repeated seq is
    dropped.

    kinds: `rules` (what the workflow will run: `counts` = {rule: jobs}), `job` (a job's state changed, or with no
    state: what it used, `usage`), `progress`, `node` (state of the node's part), `note`. `usage`: seconds `queued_s`,
    `total_s`, `command_s`; `cores`, `ram_gb`, `disk_gb` asked for; `output_bytes`. `cpu_seconds` and `memory_bytes`
    (peak) of a job where its TES measures them.
    """

    seq: int = Field(ge=1)
    time: float
    kind: Literal["rules", "job", "progress", "node", "note"]
    rule: Label | None = None
    job: Label | None = None
    wildcards: dict[Label, Label] = Field(default_factory=dict, max_length=50)
    state: JobState | Literal["starting", "success"] | None = None
    task: Label | None = None
    tries: int | None = Field(default=None, ge=0)
    exit_code: int | None = None
    error_class: Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9]{0,60}$")] | None = None
    line: int | None = Field(default=None, ge=0)
    dataset: DatasetId | None = None
    message: Text | None = None
    cpu_seconds: float | None = Field(default=None, ge=0)
    memory_bytes: int | None = Field(default=None, ge=0, le=2**53)
    done: int | None = Field(default=None, ge=0)
    total: int | None = Field(default=None, ge=0)
    counts: dict[Label, Annotated[int, Field(ge=0)]] = Field(default_factory=dict, max_length=2000)
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
    run_state: Literal["open", "closed"]


class Job(Strict):
    """One job of the current attempt: the last that was said of it. `task`: the TES task's id at the node's gateway.
    `started_at` of its first try.
    """

    node: NodeId
    job: Label
    rule: Label
    state: JobState
    wildcards: dict[str, str] = Field(default_factory=dict)
    task: Label | None = None
    tries: int | None = None
    submitted_at: float | None = None
    started_at: float | None = None
    ended_at: float | None = None
    cpu_seconds: float | None = None
    memory_bytes: int | None = None
    exit_code: int | None = None
    error_class: Label | None = None
    line: int | None = None
    dataset: str | None = None
    message: Text | None = None


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
    state: Literal["waiting", "starting", "running", "success", "failed", "cancelled"]
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
    state: Literal["open", "closed"]
    outcome: Literal["", "success", "failed", "cancelled"] = ""
    failing: Failing | None = None
    nodes: list[NodeProgress]
    rules: list[RuleProgress]


class AuditEntry(Strict):
    """Who, what, when, under which visa. `allowed` False is a refusal; `reason` says why."""

    number: int
    time: float
    actor: Label
    action: Label
    run: str | None = None
    grant: str | None = None
    dataset: str | None = None
    node: str | None = None
    allowed: bool
    reason: Text = ""
    visa: dict[str, Any] | None = None


class AuditPage(Strict):
    entries: list[AuditEntry]


Run.model_rebuild()
OpenRuns.model_rebuild()
