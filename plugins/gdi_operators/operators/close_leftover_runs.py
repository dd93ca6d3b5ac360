"""CloseLeftoverRunsOperator: closes runs that are open at the broker though their DAG run has ended or is gone, and
cancels what is left of their tasks.
"""

from __future__ import annotations

import time
from datetime import timedelta
from typing import Any, Literal

from gdi.contracts import broker_api as m
from gdi.kit.problem import ProblemError
from gdi_operators.closing import untold
from gdi_operators.hooks.token_broker import TokenBrokerHook
from gdi_operators.operators.base import RunOperator
from gdi_operators.retry import short
from gdi_operators.runs import Context

Outcome = Literal["success", "failed", "cancelled"]


class CloseLeftoverRunsOperator(RunOperator):
    """Idempotent, and harmless when it runs twice at once: closing twice is no error anywhere. A run whose gateways
    cannot all be told stays open for the next time, but not for longer than `give_up`: then it is closed at the broker,
    where the gateway learns it. Result: `{closed: {run: outcome}, waiting}`.
    """

    def __init__(
        self, *, workflow: str = "", gateway_patience: float = 10, give_up: timedelta = timedelta(days=2), **kwargs: Any
    ) -> None:
        super().__init__(workflow=workflow, **kwargs)
        self.gateway_patience, self.give_up = gateway_patience, give_up

    def execute(self, context: Context) -> dict[str, Any]:
        closed: dict[str, str] = {}
        waiting: list[str] = []
        with self.broker() as hook:
            after = ""
            while runs := hook.open_runs(after=after):
                after = runs[-1].id
                for run in runs:
                    outcome = self._ended(context["ti"], run)
                    if outcome is None:
                        continue
                    if self._close(hook, run, outcome):
                        closed[run.id] = outcome
                    else:
                        waiting.append(run.id)
        return {"closed": closed, "waiting": waiting}

    def _ended(self, ti: Any, run: m.Run) -> Outcome | None:
        """How its DAG run ended; None while it lives."""
        if ti.get_dr_count(dag_id=run.dag_id, run_ids=[run.dag_run_id]) == 0:
            return "cancelled"
        state = str(ti.get_dagrun_state(dag_id=run.dag_id, run_id=run.dag_run_id))
        return {"success": "success", "failed": "failed"}.get(state)  # type: ignore[return-value]

    def _close(self, hook: TokenBrokerHook, run: m.Run, outcome: Outcome) -> bool:
        missing = untold(hook, run, patience=self.gateway_patience)
        if missing and time.time() - run.opened_at < self.give_up.total_seconds():
            self.log.warning("Run %s stays open, its gateways could not be told: %s", run.id, "; ".join(missing))
            return False
        try:
            hook.close_run(run.id, m.CloseRequest(attempt=run.attempt, outcome=outcome))
        except ProblemError as error:
            self.log.warning("Run %s could not be closed: %s", run.id, short(error))
            return False
        self.log.info("Run %s (%s %s) was left open; it is closed: %s", run.id, run.dag_id, run.dag_run_id, outcome)
        return True
