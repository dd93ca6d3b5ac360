"""AdmitRunOperator: the broker admits the run, or refuses it by dataset and reason, before anything starts."""

from __future__ import annotations

from typing import Any

from airflow.sdk.exceptions import AirflowFailException

from gdi_operators.admitted_workflow import entry_of, entry_of_run, keep
from gdi_operators.operators.base import RunOperator
from gdi_operators.runs import Context, admit_run, read_conf, run_id_of


class AdmitRunOperator(RunOperator):
    """Reads the DAG run's conf (`datasets`, the workflow's parameters, and a `ticket` or a `grant`) and asks the broker
    to admit it.

    Result (XCom): the plan, a list of `{run, attempt, node, datasets, access_ends_at, gateway_url, audience,
    public_key}`; nothing of it is secret. A refusal fails the task without retry and says for each dataset why and how
    to apply; a broker that is away is tried again. Cleared after the run was closed or failed, it admits the next
    attempt, for which the ticket is not needed. What the run needs of the workflow is fixed here: its files are kept
    beside its results.
    """

    def execute(self, context: Context) -> list[dict[str, Any]]:
        with self.broker() as hook:
            known = hook.get_run(run_id_of(context)) if context["ti"].try_number > 1 else None
            entry = entry_of(self.workflow) if known is None else entry_of_run(self.workflow, known)
            request = read_conf(context["dag_run"].conf, entry)
            try:
                run = admit_run(hook, context, entry, request)
            except AirflowFailException as refused:
                for line in (
                    str(refused).replace("; ", "\n").splitlines()
                ):  # short lines: Airflow shows an exception's words cut off, above a long stack
                    self.log.error("%s", line.strip())
                raise
        keep(entry, run)
        for item in run.plan:
            self.log.info(
                "Admitted: run %s, attempt %d, node %s reads %s",
                run.id,
                run.attempt,
                item.node,
                ", ".join(item.datasets),
            )
        return [{"run": run.id, "attempt": run.attempt, **item.model_dump(mode="json")} for item in run.plan]
