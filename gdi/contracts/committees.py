"""What an access committee reads of the uses of its datasets, and how it stops one. Times are seconds since the epoch
(UTC) as floats.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from gdi.contracts.ids import AirflowId, DatasetClaim, DatasetId, Digest, Label, NodeId, RunId, Sha256, Text
from gdi.kit.models import Strict

CommitteeName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]{0,62}$")]
Reason = Annotated[str, Field(min_length=3, max_length=500, pattern=r"^[^\x00-\x08\x0b-\x1f\x7f]*$")]
STOPPED: Literal["stopped-by-committee"] = (
    "stopped-by-committee"  # the slug of what a stopped run or person is answered
)


class CommitteeEntry(Strict):
    """A committee and the datasets that it decides on: exact ids, or prefixes that end in `*`."""

    name: CommitteeName
    title: Label = ""
    datasets: list[DatasetClaim]


class Committees(Strict):
    """`GET /v1/committees`: those that the caller is a member of."""

    committees: list[CommitteeEntry]


class Departure(Strict):
    """What left a node: `count` things of the release's kind (a count of sites, never their values)."""

    node: NodeId
    name: Label
    kind: Label = ""
    count: int = Field(default=0, ge=0)
    bytes: int = Field(default=0, ge=0)
    sha256: Sha256


class DatasetUse(Strict):
    """One time that a run asked for a dataset: admitted under `visa`, or refused for `reason`. `released` is what left
    the dataset's node in that run, as Airflow told when it ended; the node's own audit is the proof.
    """

    number: int
    time: float
    committee: CommitteeName
    dataset: DatasetId
    node: NodeId | None
    user: Label
    allowed: bool
    reason: Text = ""
    visa: dict[str, Any] | None = None
    run: RunId
    dag_id: AirflowId = ""
    dag_run_id: AirflowId = ""
    workflow: Label = ""
    digest: Digest | None = None
    state: Label = ""
    outcome: Label = ""
    ended_at: float | None = None
    released: list[Departure] = Field(default_factory=list)


class UsePage(Strict):
    """`GET /v1/committees/uses`: the latest first. `next_before`: where the next page begins; None on the last."""

    uses: list[DatasetUse]
    next_before: int | None = None


class CommitteeStop(Strict):
    """`POST /v1/committees/{name}/stops`: one run, or everything that a person does with the committee's datasets."""

    run: RunId | None = None
    person: Annotated[str, Field(min_length=1, max_length=255)] | None = None
    reason: Reason

    @model_validator(mode="after")
    def _one(self) -> CommitteeStop:
        if (self.run is None) == (self.person is None):
            raise ValueError("name a run or a person")
        return self


class Stop(Strict):
    """A stop that a member made. A person's stop can be lifted; a run's stays."""

    id: int
    committee: CommitteeName
    run: RunId | None = None
    person: Label | None = None
    reason: Text
    by: Label
    made_at: float
    lifted_by: Label = ""
    lifted_at: float | None = None


class StoppedRun(Strict):
    """A run that a stop ended: what Airflow has to be told."""

    id: RunId
    dag_id: AirflowId
    dag_run_id: AirflowId
    user: Label


class StopAnswer(Strict):
    """The stop, and the open runs that it ends: their pods and tasks get no token any more from this moment on."""

    stop: Stop
    runs: list[StoppedRun]


class StopList(Strict):
    """`GET /v1/committees/stops`: of the caller's committees, the latest first."""

    stops: list[Stop]
