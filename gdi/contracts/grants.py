"""The broker's API on grants, tickets and schedules. Times are seconds since the epoch (UTC) as floats."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from gdi.contracts.ids import AirflowId, DatasetId, Digest, GrantId, Label, NewRunId, Text, WorkflowName
from gdi.contracts.parameters import Parameters
from gdi.kit.models import Strict


class Schedule(Strict):
    """When a standing grant starts its workflow by itself. `cron`: five fields, in `timezone` (IANA); `parameters` as
    in `conf`, with `datasets`.

    `catch_up` after downtime: every missed start, only the latest one, or none. `digest`: the workflow's version that
    the user saw; without it the version of the first start is fixed.
    """

    workflow: WorkflowName
    parameters: Parameters
    cron: Annotated[str, Field(max_length=200)]
    timezone: Annotated[str, Field(max_length=64)] = "UTC"
    catch_up: Literal["all", "latest", "none"] = "latest"
    digest: Digest | None = None


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

    `dag_run_id`, where given, makes the ticket worthless for any other Airflow run, and good for that one whenever it
    begins. It must be one that Airflow takes: 1 to 248 of `A-Z a-z 0-9 _ . ~ : + -`.
    """

    workflow: WorkflowName
    parameters: Parameters
    dag_run_id: NewRunId | None = None


class Ticket(Strict):
    """`ticket` is the secret that goes into `conf`: 256 random bits, `gdit_…`, good once."""

    ticket: str
    expires_at: float


class DueStart(Strict):
    """One start that is due: a DAG run of `workflow` with this very run id and `{**parameters, "ticket": ticket}` as
    its conf. `user`: the grant's owner. Airflow never learns the grant's id.
    """

    user: Label = ""
    due: float
    workflow: WorkflowName
    parameters: Parameters
    dag_run_id: AirflowId
    ticket: str = Field(repr=False)


class DueStarts(Strict):
    """`POST /v1/schedules/due`, Airflow's workload: what is to be started now. What is not reported within two minutes
    is handed out again.
    """

    starts: list[DueStart] = Field(default_factory=list)


class StartReport(Strict):
    """`POST /v1/schedules/starts`: the run is there (also where it was before), or can never be. Both name it."""

    dag_run_id: AirflowId
    due: float
    outcome: Literal["started", "refused"]
    detail: Text = ""
