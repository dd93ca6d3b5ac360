"""What operators do where the node's own agent starts Snakemake: put the order, wait for its end with the run's shared
poll, judge the end. The node decides; here is only the intent.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import timedelta
from typing import Any, NoReturn

from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException

from gdi.contracts import broker_api as m
from gdi.contracts import needed
from gdi.contracts.gateway_api import ReleaseRequest
from gdi.contracts.orders import ENDED_ORDER, OrderKind, OrderStatus
from gdi.contracts.packed_workflow import packed
from gdi.contracts.workflow import CatalogueEntry
from gdi_operators.admitted_workflow import entry_of_run
from gdi_operators.hooks.gateway import GatewayClient
from gdi_operators.hooks.token_broker import TokenBrokerHook
from gdi_operators.operators.base import RunOperator
from gdi_operators.orders import LONGEST, order_request
from gdi_operators.runs import Context, StartRequest, cohort_of, run_id_of
from gdi_operators.triggers.node_order import NodeOrderTrigger
from gdi_operators.triggers.snakemake import why

SLACK = 300.0  # seconds after an order's deadline until the broker says that it is expired


class OrderSteps(RunOperator):
    """For operators that are mapped over the plan; `item` is the node's part of it."""

    item: dict[str, Any]

    @property
    def _node(self) -> str:
        return str(self.item["node"])

    def put_order(
        self,
        hook: TokenBrokerHook,
        context: Context,
        run: m.Run,
        kind: OrderKind,
        *,
        lasting: timedelta,
        releases: Sequence[ReleaseRequest] = (),
    ) -> OrderStatus:
        """The order of this attempt; put again, it is the same one: its deadline counts from the attempt's start."""
        entry = self._entry(run)
        if kind == "analyse":
            hook.put_workflow(run.digest, packed(entry.folder, entry.files))
        deadline = run.opened_at + min(lasting, LONGEST).total_seconds()
        request = order_request(context, run, entry, deadline=deadline, releases=releases)
        return hook.put_order(run.id, self._node, kind, request)

    @staticmethod
    def patience(run: m.Run) -> dict[str, Any]:
        """For the trigger's state: when, and with how many nodes, the run goes on without this one."""
        wanted = needed.read(run.needed)
        until = needed.waited_until(wanted, run.opened_at)
        return (
            {"late": {"at": until, "at_least": wanted.at_least}} if isinstance(wanted, needed.AtLeast) and until else {}
        )

    def wait_for_order(self, status: OrderStatus, state: dict[str, Any], *, watch_run: bool = True) -> NoReturn:
        """Defers until the order is over, or the run cannot succeed."""
        trigger = NodeOrderTrigger(
            run=status.run,
            attempt=status.attempt,
            node=self._node,
            kind=status.kind,
            token_broker_conn_id=self.token_broker_conn_id,
            watch_run=watch_run,
            state={"attempt": status.attempt, "kind": status.kind, **state},
        )
        left = max(5.0, status.deadline + SLACK - time.time())
        self.defer(trigger=trigger, method_name="resume_order", timeout=timedelta(seconds=left))
        raise AssertionError("defer does not return")

    def resume_order(self, context: Context, event: dict[str, Any]) -> dict[str, Any]:
        """After the trigger: the order's end is judged by the broker's word of now."""
        state: dict[str, Any] = dict(event["state"])
        with self.broker() as hook:
            run = hook.get_run(run_id_of(context))
            if run is None:
                raise AirflowFailException("The broker does not know the run any more.")
            status = hook.order(run.id, self._node, state["kind"], int(state["attempt"]))
            if event["kind"] in ("failing", "closed"):
                self._end_order(hook, status, str(event["message"]), state)
            if event["kind"] == "late" and status.state not in ENDED_ORDER:
                late = f"node {self._node} is late; clear this task when it is back: its part makes the next answer"
                self.log.warning("%s.", late)
                return self.without(run, late)
            if status.state not in ENDED_ORDER:
                self.wait_for_order(status, state, watch_run="stopped" not in state)
            return self.judge_order(run, status, str(state.get("stopped", "")))

    def _end_order(self, hook: TokenBrokerHook, status: OrderStatus, reason: str, state: dict[str, Any]) -> None:
        """Asks for the end of an order that goes on, and defers until it has come. It is said in every order of events,
        also where an earlier try of the task asked for it and was lost.
        """
        if status.state in ENDED_ORDER and status.state != "cancelled":
            return
        self.log.warning("The order at %s is ended: %s", self._node, reason)
        if status.state not in ENDED_ORDER:
            hook.cancel_order(status.run, self._node, status.kind, status.attempt, reason[:500])
            self.wait_for_order(status, {**state, "stopped": reason}, watch_run=False)

    def judge_order(self, run: m.Run, status: OrderStatus, stopped: str) -> dict[str, Any]:
        """The task's result where the order succeeded; else how the task ends."""
        if status.state == "succeeded":
            return self.order_result(run, status)
        if stopped or status.state == "cancelled":
            raise AirflowFailException(
                f"stopped: {stopped or status.cancelling or status.reason or 'a person ended it'}"
            )
        reason = ": ".join(text for text in (status.reason, status.detail) if text)
        sentence = {
            "refused": f"node {self._node} refused: {reason}",
            "expired": f"node {self._node} did not answer by the deadline",
        }.get(status.state, f"node {self._node} failed: {status.detail or reason or 'it did not say why'}")
        if run.failing is not None:
            own = run.failing.node == self._node
            dataset = f" (dataset {run.failing.dataset})" if own and run.failing.dataset else ""
            raise AirflowFailException(sentence + dataset)
        self.log.error("%s. The run goes on without it.", sentence)
        return self.without(run, sentence)

    def without(self, run: m.Run, reason: str) -> dict[str, Any]:
        """How the task ends where the run does not need this node."""
        raise AirflowSkipException(reason)

    def order_result(self, run: m.Run, status: OrderStatus) -> dict[str, Any]:
        """What the task hands on."""
        raise NotImplementedError

    def stop_for(self, hook: TokenBrokerHook, run: m.Run, kind: OrderKind) -> None:
        """Where the run is failing already: ends an order that an earlier try left, and fails."""
        assert run.failing is not None
        reason = why(run.failing)
        status = hook.find_order(run.id, self._node, kind, run.attempt)
        if status is not None:
            self._end_order(hook, status, reason, {})
        raise AirflowFailException(
            f"not started: {reason}. To run it again, clear this task with its downstream tasks."
        )

    @staticmethod
    def admit_cohort(
        hook: TokenBrokerHook, run: m.Run, item: m.PlanItem, entry: CatalogueEntry, request: StartRequest
    ) -> None:
        """Where the coordinator starts Snakemake: the node's word about the cohort that is named. ProblemError."""
        cohort = cohort_of(request)
        if cohort.written:
            gateway = GatewayClient(hook, run.id, item.model_dump(mode="json"))
            gateway.admit((release.kind for release in entry.workflow.releases), cohort)

    def _entry(self, run: m.Run) -> CatalogueEntry:
        return entry_of_run(self.workflow, run)
