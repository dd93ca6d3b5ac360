"""RuleTrigger: shows one rule of a run, from its first job to its end, without a worker and without a request of its
own.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from typing import Any

from airflow.triggers.base import BaseTrigger, TaskFailedEvent, TaskSkippedEvent, TaskSuccessEvent, TriggerEvent

from gdi.contracts.ids import make_run_id
from gdi_operators.progress_poller import InAirflow, ProgressPoller, Snapshot, follow
from gdi_operators.rules import Verdict, describe, verdict

LONGEST = 30 * 86400.0  # seconds from the DAG run's start: longer than any step of it may take
AGAIN = (
    "This task shows the rule; it runs nothing, and clearing it only looks again. To run what is missing, clear"
    " 'analyse' with its downstream tasks: Snakemake goes on where it was and repeats no finished job."
)
EVENTS = {"success": TaskSuccessEvent, "failed": TaskFailedEvent, "skipped": TaskSkippedEvent}


class RuleTrigger(BaseTrigger):
    """Ends its task by itself (`TaskSuccessEvent`, `TaskFailedEvent`, `TaskSkippedEvent`), as the run's progress at the
    broker says.

    rule: its name. admit, close: ids of the tasks that begin and end the run in Airflow. Before it is admitted (again)
    nothing that the broker says of it counts; once it is over and the broker cannot tell more, the rule is skipped. The
    DAG run is that of the task. All triggers of a run share one poll (feed.py); each logs where its rule stands
    whenever that changes. No fault in here fails a task.
    """

    def __init__(
        self, *, rule: str, admit: str = "admit", close: str = "close", token_broker_conn_id: str | None = None
    ) -> None:
        super().__init__()
        self.rule, self.admit, self.close, self.token_broker_conn_id = rule, admit, close, token_broker_conn_id
        self.deadline = time.time() + LONGEST
        self._last_text = ""

    def serialize(self) -> tuple[str, dict[str, Any]]:
        kwargs = {
            "rule": self.rule,
            "admit": self.admit,
            "close": self.close,
            "token_broker_conn_id": self.token_broker_conn_id,
        }
        return f"{type(self).__module__}.{type(self).__name__}", kwargs

    def render_template_fields(self, context: Any, jinja_env: Any = None) -> None:
        """There are none. What Airflow made for them, a copy of the whole DAG for each trigger, is let go: a thousand
        watchers would hold a thousand DAGs.
        """
        dag_run = context.get("dag_run")
        if (start := getattr(dag_run, "start_date", None)) is not None:
            self.deadline = start.timestamp() + LONGEST
        context.clear()
        if self.task_instance is not None:
            self.task_instance.task = None

    async def run(self) -> AsyncIterator[TriggerEvent]:
        try:
            found = await self._decide()
        except Exception:
            self.log.exception(
                "Rule %s is not shown: a fault of the watcher, which says nothing about the rule. The run's page"
                " Progress shows it.",
                self.rule,
            )
            found = Verdict("skipped", "it could not be watched")
        level = self.log.error if found.state == "failed" else self.log.info
        level("Rule %s: %s (%s).", self.rule, found.state, found.why)
        yield EVENTS[found.state]()

    async def _decide(self) -> Verdict:
        ti = self.task_instance
        if ti is None:
            raise ValueError("a RuleTrigger belongs to a task")
        if ti.try_number > 1:
            self.log.info("%s", AGAIN)
        place = InAirflow(ti.dag_id, ti.run_id, self.admit, self.close)
        async with follow(make_run_id(ti.dag_id, ti.run_id), conn_id=self.token_broker_conn_id, place=place) as feed:
            return await self._watch(feed)

    async def _watch(self, feed: ProgressPoller) -> Verdict:
        start = seen = time.monotonic()
        while True:
            snapshot = await feed.newer(seen)
            seen = snapshot.requested_at
            if snapshot.refused:
                return Verdict("skipped", "the run was not admitted")
            if snapshot.admitted < start:
                continue
            if (found := self._read(snapshot)) is not None:
                return found
            if snapshot.ended:
                return Verdict("skipped", "the run is over in Airflow, and the broker does not say how the rule ended")
            if time.time() > self.deadline:
                return Verdict("skipped", "the run takes longer than a rule is watched")

    def _read(self, snapshot: Snapshot) -> Verdict | None:
        if snapshot.progress is None:
            self._say(
                f"The broker {'does not answer' if snapshot.away else 'refuses'} ({snapshot.trouble}); waiting for it."
            )
            return None
        self._say(describe(snapshot.progress, self.rule))
        return verdict(snapshot.progress, self.rule)

    def _say(self, text: str) -> None:
        if text and text != self._last_text:
            self._last_text = text
            self.log.info("%s", text)
