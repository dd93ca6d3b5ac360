"""CloseRunOperator: the teardown that ends an attempt at every gateway and at the broker, whatever happened before."""

from __future__ import annotations

from typing import Any

from airflow.sdk.exceptions import AirflowException, AirflowFailException
from pydantic import ValidationError

from gdi.contracts import broker_api as m
from gdi.contracts import needed
from gdi.contracts.committees import Departure
from gdi_operators import late_orders, markings
from gdi_operators.closing import untold
from gdi_operators.hooks.token_broker import TokenBrokerHook
from gdi_operators.operators.base import RunOperator
from gdi_operators.operators.release import ReleaseOperator
from gdi_operators.runs import Context, run_id_of

BAD = {"failed", "upstream_failed"}
MOST = 2000  # releases that are told of


class CloseRunOperator(RunOperator):
    """Use it as teardown that decides: `close.as_teardown(setups=admit, on_failure_fail_dagrun=True)`. The outcome is
    what the other tasks' states say.

    Each gateway of the plan is told first, while there are run tokens for it: live TES tasks are cancelled,
    capabilities end. One that cannot be told is tried again by Airflow's retries; at the last try the run is closed at
    the broker all the same (the gateway learns it there) and the task fails, naming it. A node that the answer was made
    without, and that still works, is not told: it goes on (late_orders.py).

    Result of a run that succeeded: `{run, attempt, outcome}`. Of any other it closes the run too, and then fails at
    once, saying what ended it: Airflow calls a run that a person stopped a success unless its teardown fails. Closing
    twice is no error. `gateway_patience`: seconds for each gateway in one try.
    """

    def __init__(self, *, gateway_patience: float = 30, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.gateway_patience = gateway_patience

    def execute(self, context: Context) -> dict[str, Any]:
        with self.broker() as hook:
            run = hook.get_run(run_id_of(context))
            if run is None:
                self.log.info("No run was admitted: nothing to close.")
                return {"run": run_id_of(context), "attempt": 0, "outcome": ""}
            if run.state == "closed":
                self.log.info("Attempt %d is closed already (%s).", run.attempt, run.outcome)
                return self._report(run, run.outcome)
            outcome, why = self._outcome(hook, context, run)
            late = late_orders.leave(hook, context, run) if outcome == "success" else []
            missing = untold(hook, run, patience=self.gateway_patience, late=late)
            last = context["ti"].try_number > context["ti"].max_tries
            if missing and not last:
                raise AirflowException(
                    f"Not told that the run ended: {'; '.join(missing)}. They are told at the next try; the run stays"
                    " open until then."
                )
            left = self._released(context["ti"])
            hook.close_run(
                run.id, m.CloseRequest(attempt=run.attempt, outcome=outcome, released=left, late=late or None)
            )
        self.log.info("Run %s, attempt %d is closed: %s. %s", run.id, run.attempt, outcome, why)
        if missing:
            raise AirflowException(
                "The run is closed at the broker, but these gateways could not be told, and may still run its tasks:"
                f" {'; '.join(missing)}"
            )
        return self._report(run, outcome, why)

    @staticmethod
    def _report(run: m.Run, outcome: str, why: str = "") -> dict[str, Any]:
        if outcome == "success":
            return {"run": run.id, "attempt": run.attempt, "outcome": outcome}
        if run.failing is not None:
            why = f"Node {run.failing.node} failed: {run.failing.reason}"
        elif not why:
            why = "It was stopped." if outcome == "cancelled" else "The first task in red, before this one, says why."
        raise AirflowFailException(
            f"Everything of the run is closed, and this task is red because the run did not succeed. {why}"
        )

    def _outcome(self, hook: TokenBrokerHook, context: Context, run: m.Run) -> tuple[Any, str]:
        """(the Literal of CloseRequest, why where that is not plain)."""
        ti, before = context["ti"], self._before()
        states = ti.get_task_states(dag_id=ti.dag_id, run_ids=[ti.run_id], task_ids=before or None).get(ti.run_id, {})
        states = {str(name): str(state) for name, state in states.items() if name != ti.task_id}
        others = set(states.values())
        if run.failing is None and str(ti.get_dagrun_state(dag_id=ti.dag_id, run_id=ti.run_id)) == "failed":
            return "cancelled", ""  # while a teardown still runs, only a person has set this
        if run.failing is not None or others & BAD:
            return ("cancelled" if run.failing is None and self._stopped(hook, run, others) else "failed"), ""
        steps = before  # a node that is late, or failed, releases nothing, and the run goes on
        if needed.read(run.needed) != "all":
            steps = [n for n in before if not issubclass(markings.operator_class(self.dag, n), ReleaseOperator)]
        unmade = markings.unmade(self.dag, ti, steps, states) if steps else []
        if unmade:
            return "cancelled", (
                f"It ended before it was done: somebody marked the run, or {', '.join(unmade[:5])}, by hand, and"
                " nothing was made there. Clear what was marked, with what comes after it, to go on."
            )
        return "success", ""

    @staticmethod
    def _stopped(hook: TokenBrokerHook, run: m.Run, others: set[str]) -> bool:
        """Whether a person stopped the run. Airflow then fails what was at work and skips what was to come, and leaves
        the run running for its teardown; a task that fails by itself has those behind it `upstream_failed`."""
        nodes = {node.state for node in hook.progress(run.id).nodes}
        return (
            "upstream_failed" not in others and nodes != {"success"} and ("skipped" in others or "cancelled" in nodes)
        )

    def _released(self, ti: Any) -> list[Departure]:
        """What left each node, by the answers of the release steps: an access committee reads it at the broker."""
        found: list[Departure] = []
        before = self._before()
        for one in ti.xcom_pull(task_ids=before) or [] if before else []:  # of every node, where a step is mapped
            if isinstance(one, dict) and {"node", "name", "sha256", "sites_released"} <= one.keys():
                named = {key: one.get(key) or "" for key in ("node", "name", "sha256", "kind")}
                sizes = {"count": one["sites_released"], "bytes": one.get("bytes") or 0}
                try:
                    found.append(Departure.model_validate(named | sizes))
                except ValidationError:  # an author's own task returned something like it: a run ends all the same
                    self.log.warning("What %s returned for %s is no release.", named["node"], named["name"])
        return found[:MOST]

    def _before(self) -> list[str]:
        """The tasks upstream of this one decide how the run ended; those beside it (the rules' watchers, an author's
        own) do not.
        """
        found: set[str] = set()
        left = set(self.upstream_task_ids)
        while left:
            name = left.pop()
            found.add(name)
            left |= self.dag.get_task(name).upstream_task_ids - found
        return sorted(found)
