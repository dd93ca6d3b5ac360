"""StartDueOperator: asks the broker which standing grants are due and makes a DAG run of each, once."""

from __future__ import annotations

import time
from typing import Any

import httpx
from airflow.sdk.exceptions import AirflowException, AirflowFailException, AirflowRuntimeError, ErrorType
from airflow.sdk.execution_time.comms import ErrorResponse, TriggerDagRun

from gdi.contracts import broker_api as m
from gdi.kit.problem import ProblemError
from gdi.kit.settings import SettingsError
from gdi_operators.hooks.token_broker import TokenBrokerHook
from gdi_operators.operators.base import RunOperator
from gdi_operators.runs import Context
from gdi_operators.settings import settings
from gdi_operators.teams import Teams, dag_for, teams

LATE_PARTS = "late_parts"  # the DAG of AddLatePartsOperator
MAX_ROUNDS = 20  # of fifty starts each, in one run of this task


class StartDueOperator(RunOperator):
    """A start's DAG run id is made of grant and due time, so that a start that is made again (a crash, a second
    scheduler) meets the run that is there.

    The tickets are in the new runs' conf and nowhere else: no XCom, no log. Visas are checked when the run admits
    itself. A start that Airflow refuses (no such DAG, a broken one) is tried again later and fails this task, so
    that somebody looks; one whose parameters it refuses is reported to the broker, which stops the schedule and
    says why. Where isolation is `team` the run is one of the first team in GDI_TEAMS that has the grant's owner and
    may run the workflow; with no such team it counts as refused.

    Result: `{started, there_before, failed}`, DAG run ids.
    """

    def __init__(self, *, workflow: str = "", **kwargs: Any) -> None:
        super().__init__(workflow=workflow, **kwargs)

    def execute(self, context: Context) -> dict[str, list[str]]:
        by = getattr(context["dag_run"], "triggering_user_name", None)
        if by:  # the new runs would count as theirs, and other users' tickets would not serve
            raise AirflowFailException(
                f"Started by {by}: only its schedule may start this DAG. To start now, start the workflow itself."
            )
        report: dict[str, list[str]] = {"started": [], "there_before": [], "failed": []}
        with self.broker() as hook:
            known = teams()
            for _ in range(MAX_ROUNDS):
                found = hook.due_starts()
                for start in found:
                    self._start(hook, start, known, report)
                if not found:
                    break
            self._start_late_parts(hook)
            self._bring_workflows(hook)
        if report["failed"]:
            raise AirflowException(
                f"Airflow did not start: {', '.join(report['failed'][:20])}. The log says why; they are tried again."
            )
        return report

    def _start_late_parts(self, hook: TokenBrokerHook) -> None:
        """The DAG that adds late parts, where there are some; of its runs in one minute there is one."""
        try:
            if not hook.late_parts():
                return
            trigger(LATE_PARTS, f"late__{int(time.time() // 60)}", {})
        except (ProblemError, AirflowRuntimeError) as error:  # a broker of before knows none; schedules go on
            self.log.warning("Late parts are not looked for now: %s", type(error).__name__)

    def _bring_workflows(self, hook: TokenBrokerHook) -> None:
        """So that nodes can judge at a preflight what nobody has run yet. Without it the first run brings it."""
        try:
            brought = hook.bring_workflows(settings().need("workflows"))
        except (ProblemError, httpx.HTTPError, OSError, SettingsError) as error:
            self.log.warning("The catalogue is not brought to the broker now: %s", error)
        else:
            if brought:
                self.log.info("Brought to the broker: %s.", ", ".join(brought))

    def _start(
        self, hook: TokenBrokerHook, start: m.DueStart, known: Teams | None, report: dict[str, list[str]]
    ) -> None:
        dag_id = dag_for(start.workflow, start.user, known)
        name = f"{dag_id or start.workflow} {start.dag_run_id}"
        if dag_id is None:
            self.log.error(
                "%s was not started: no team that may run %s has %s among its members (GDI_TEAMS).",
                name,
                start.workflow,
                start.user,
            )
            report["failed"].append(name)
            return
        try:
            there = trigger(dag_id, start.dag_run_id, {**start.parameters, "ticket": start.ticket})
        except AirflowRuntimeError as error:
            why = refused_parameters(error.error.detail).replace(start.ticket, "(the ticket)")[:1000]
            # of other errors not the detail: that may repeat conf
            self.log.error("%s was not started: %s", name, why or error.error.error.value)
            if why:
                hook.report_start(
                    m.StartReport(dag_run_id=start.dag_run_id, due=start.due, outcome="refused", detail=why)
                )
            report["failed"].append(name)
            return
        self.log.info("%s %s.", name, "is there already" if there else "is started")
        hook.report_start(m.StartReport(dag_run_id=start.dag_run_id, due=start.due, outcome="started"))
        report["there_before" if there else "started"].append(name)


def refused_parameters(detail: object) -> str:
    """What Airflow's own check of the parameters says, in the detail of an error of its execution API: `{"reason":
    "value_error", "message": …}`, however deep. Empty for every other error.
    """
    if isinstance(detail, list):
        return next((found for one in detail[:20] if (found := refused_parameters(one))), "")
    if not isinstance(detail, dict):
        return ""
    if detail.get("reason") == "value_error":
        return str(detail.get("message") or "its parameters")
    return next((found for one in list(detail.values())[:20] if (found := refused_parameters(one))), "")


def trigger(dag_id: str, run_id: str, conf: dict[str, Any]) -> bool:
    """Makes the DAG run, as TriggerDagRunOperator does; True where it was there before. AirflowRuntimeError where
    Airflow refuses.
    """
    from airflow.sdk.execution_time.task_runner import SUPERVISOR_COMMS

    try:
        answer = SUPERVISOR_COMMS.send(TriggerDagRun(dag_id=dag_id, run_id=run_id, conf=conf))
    except AirflowRuntimeError as error:
        answer = error.error
    if isinstance(answer, ErrorResponse):
        if answer.error != ErrorType.DAGRUN_ALREADY_EXISTS:
            raise AirflowRuntimeError(answer)
        return True
    return False
