"""What Airflow's database says of a run, for `gdi.contracts.run_endings.judge`. Blocking."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import datetime

from sqlalchemy import select

from gdi.contracts.run_endings import AIRFLOW_NOTE, COMMITTEE_NOTE, IN_AIRFLOW, STOP_NOTE, StepFacts

WHY = "why"  # the XCom that a failing task of a run leaves (operators/base.py)
MAPPED = ("analyse", "release")
TERMINAL = {"success", "failed", "upstream_failed", "skipped", "removed"}
_SLUG = re.compile(r"^[a-z]+(-[a-z]+)+: ")


@dataclass(frozen=True)
class AirflowFacts:
    """`state` None: Airflow has no such run. `reasons` by task, of those that failed."""

    state: str | None = None
    note: str = ""
    ended_at: float | None = None
    steps: tuple[StepFacts, ...] = ()
    reasons: dict[str, str] = field(default_factory=dict)

    @property
    def reason(self) -> str:
        """What the first of the failed steps said, in the order of the DAG."""
        order = ("admit", "analyse", "release", "gather", "close")
        return next((self.reasons[task] for task in order if task in self.reasons), "")

    def state_of(self, task: str) -> str:
        return next((s.state for s in self.steps if s.task == task), "")

    @property
    def stopped_by(self) -> str | None:
        """Who asked that the run ends: empty for its user; None where nobody did. A note outlives a clear: it counts
        where the run is over, or steps of it were ended.
        """
        kinds = ((STOP_NOTE, ""), (AIRFLOW_NOTE, IN_AIRFLOW))
        whose = next((by for note, by in kinds if self.note.startswith(note)), None)
        if self.note.startswith(COMMITTEE_NOTE):
            whose = self.note.removeprefix(COMMITTEE_NOTE)
        ended = {s.state for s in self.steps if s.task in ("admit", "analyse", "gather")} & {"failed", "skipped"}
        return whose if ended or self.state not in ("queued", "running") else None

    @property
    def closing(self) -> bool:
        """The run is over for Airflow, and its teardown still works."""
        return self.state in ("failed", "success") and self.state_of("close") not in TERMINAL | {""}


def read(dag_id: str, dag_run_id: str) -> AirflowFacts:
    """One session of the api-server's own."""
    from airflow.models.dagrun import DagRun
    from airflow.models.taskinstance import TaskInstance
    from airflow.models.xcom import XComModel
    from airflow.utils.session import create_session

    with create_session() as session:
        run = session.scalar(select(DagRun).where(DagRun.dag_id == dag_id, DagRun.run_id == dag_run_id))
        if run is None:
            return AirflowFacts()
        columns = (TaskInstance.task_id, TaskInstance.map_index, TaskInstance.state, TaskInstance.rendered_map_index)
        rows = session.execute(
            select(*columns).where(
                TaskInstance.dag_id == dag_id,
                TaskInstance.run_id == dag_run_id,
                TaskInstance.task_id.not_like("rules.%"),
            )
        ).all()
        failed = {(task, index) for task, index, state, _ in rows if state == "failed"}
        left = session.execute(
            select(XComModel.task_id, XComModel.map_index, XComModel.value).where(
                XComModel.dag_id == dag_id, XComModel.run_id == dag_run_id, XComModel.key == WHY
            )
        ).all()
        reasons = {task: sentence(value) for task, index, value in left if (task, index) in failed}
        return AirflowFacts(
            state=str(run.state),
            note=str(run.note or ""),
            ended_at=run.end_date.timestamp() if isinstance(run.end_date, datetime) else None,
            steps=tuple(
                StepFacts(task, str(state or "none"), node_of(label) if task in MAPPED else "")
                for task, index, state, label in rows
            ),
            reasons=reasons,
        )


def node_of(label: object) -> str:
    """The node in the label of a mapped task (`NODE`, or `NODE · RELEASE`); empty where there is none yet."""
    return str(label or "").partition(" · ")[0]


def sentence(value: object) -> str:
    """A reason as a person reads it: without the slug in front, at most 600 characters, with an end."""
    text = str(value).strip().strip('"')
    text = _SLUG.sub("", text)[:600].strip()
    return text if text.endswith((".", "!", "?")) else f"{text}." if text else ""
