"""ReleaseOperator: asks a node's gateway to check one declared output and to publish what passes."""

from __future__ import annotations

import time
from datetime import timedelta
from typing import Any

from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException

from gdi.contracts import broker_api as m
from gdi.contracts import needed
from gdi.contracts.gateway_api import Released, ReleaseRequest
from gdi.contracts.orders import ENDED_ORDER, OrderStatus
from gdi.kit.problem import ProblemError
from gdi.releases.registry import kind_of
from gdi_operators import markings
from gdi_operators.admitted_workflow import entry_of_run
from gdi_operators.hooks.gateway import GatewayClient
from gdi_operators.hooks.token_broker import TokenBrokerHook
from gdi_operators.links.review import ReviewLink, review_page
from gdi_operators.operators.base import RunOperator
from gdi_operators.operators.node_order import OrderSteps
from gdi_operators.orders import release_requests
from gdi_operators.runs import NODE, Context, cohort_of, item_of, open_run, read_conf, run_id_of
from gdi_operators.triggers.release import ReleaseTrigger


class ReleaseOperator(OrderSteps):
    """Map it over the plan and the releases that the workflow declares: `.partial(workflow=…).expand(item=admit.output,
    release=["counts"])`.

    While a person of the node has to approve, the task is deferred, for at most `review_timeout`; its log and its link
    *Review* say who must act and where. It goes on within seconds of the decision; a refusal fails it with the person's
    reason. `review_timeout` runs from the first question of each try. Result: `{node, name, kind, sha256, bytes,
    url, signature, sites_released, sites_withheld, withheld, attempt}`; never a released value. A refusal fails without
    retry, with the gateway's reasons.
    """

    template_fields = ("item", "release")
    operator_extra_links = (*RunOperator.operator_extra_links, ReviewLink())

    def __init__(
        self, *, item: dict[str, Any], release: str, review_timeout: timedelta = timedelta(days=14), **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.item, self.release, self.review_timeout = item, release, review_timeout

    def execute(self, context: Context) -> dict[str, Any]:
        with self.broker() as hook:
            run = open_run(hook, context, self.workflow)
            self._need_part(hook, run)
            if item_of(run, self._node).placement == NODE:
                return self._ordered(hook, context, run)
        return self._ask(context, until=time.time() + self.review_timeout.total_seconds())

    def _need_part(self, hook: TokenBrokerHook, run: m.Run) -> None:
        """A node that did not do its part, and that the run does not need, releases nothing."""
        if run.failing is None and needed.read(run.needed) != "all":
            states = {node.node: node.state for node in hook.progress(run.id).nodes}
            late = item_of(run, self._node).placement == NODE and states.get(self._node) != "success"
            if late or states.get(self._node) in ("failed", "cancelled"):
                raise AirflowSkipException(f"{self._node} did not do its part; the run goes on without it.")

    def _ordered(self, hook: TokenBrokerHook, context: Context, run: m.Run) -> dict[str, Any]:
        """The node's agent publishes and pushes all that the workflow declares; this task waits for its own."""
        if run.failing is not None:
            self.stop_for(hook, run, "release")
        wanted = release_requests(self._entry(run))
        status = self.put_order(hook, context, run, "release", lasting=self.review_timeout, releases=wanted)
        if status.state in ENDED_ORDER:
            return self.judge_order(run, status, "")
        self.wait_for_order(status, self.patience(run))

    def order_result(self, run: m.Run, status: OrderStatus) -> dict[str, Any]:
        released = next((r for r in status.released if r.name == self.release), None)
        kind = next((r.kind for r in self._entry(run).workflow.releases if r.name == self.release), None)
        if released is None or kind is None:
            raise AirflowFailException(f"node {self._node} did not push the release {self.release}.")
        self._log_released(released, kind)
        return {**released.model_dump(mode="json"), "node": self._node, "attempt": run.attempt, "kind": kind}

    def _log_released(self, released: Released, kind: str) -> None:
        self.log.info(
            "%s released %d %ss of %s%s.",
            self._node,
            released.sites_released,
            kind_of(kind).unit,
            released.name,
            "" if released.sites_withheld is None else f" and withheld about {released.sites_withheld}",
        )

    def resume(self, context: Context, event: dict[str, Any]) -> dict[str, Any]:
        """Asks once more, after the trigger."""
        if event.get("kind") == "refused":
            self.log.warning("Waiting for the review ended: %s", str(event.get("message"))[:1000])
        return self._ask(context, until=float(event["state"]["until"]))

    def _ask(self, context: Context, *, until: float) -> dict[str, Any]:
        node = str(self.item["node"])
        with self.broker() as hook:
            result = self._release(hook, context, node)
        if result is not None:
            return result
        if time.time() > until:
            raise AirflowFailException(
                f"Nobody at {node} decided on the release {self.release} within {self.review_timeout}. Ask them, then"
                " clear this task."
            )
        self.log.info(
            "The release %s waits for a reviewer of %s, who signs in at %s",
            self.release,
            node,
            review_page(self, run_id_of(context)),
        )
        trigger = ReleaseTrigger(
            run=run_id_of(context),
            item=self.item,
            release=self.release,
            until=until,
            token_broker_conn_id=self.token_broker_conn_id,
            state={"until": until},
        )
        self.defer(trigger=trigger, method_name="resume")
        raise AssertionError("defer does not return")

    def _release(self, hook: TokenBrokerHook, context: Context, node: str) -> dict[str, Any] | None:
        run = open_run(hook, context, self.workflow)
        entry = entry_of_run(self.workflow, run)
        declared = next((r for r in entry.workflow.releases if r.name == self.release), None)
        if declared is None:
            raise AirflowFailException(f"The workflow {self.workflow} declares no release {self.release!r}.")
        request = ReleaseRequest(
            name=declared.name,
            path=declared.path,
            kind=declared.kind,
            workflow=run.workflow,
            digest=run.digest,
            attempt=run.attempt,
            review=declared.review,
            cohort=cohort_of(read_conf(context["dag_run"].conf, entry)),
            levels_in=declared.levels,
        )
        gateway = GatewayClient(hook, run.id, item_of(run, node).model_dump(mode="json"))
        try:
            released = gateway.ask_release(request)
        except ProblemError as error:
            if error.slug == "not-found":
                why = self._absent(context, node, declared.path)
                self.log.error("%s", why)  # Airflow shows an exception's words apart from the log
                raise AirflowFailException(why) from None
            if error.slug != "release-refused":
                raise
            reasons = (error.problem.model_extra or {}).get("reasons")
            text = "; ".join(str(r)[:200] for r in reasons[:20]) if isinstance(reasons, list) else ""
            raise AirflowFailException(
                f"node {node} refused the release {self.release}: {error}" + (f" Reasons: {text}" if text else "")
            ) from None
        if released is None:
            return None
        self._log_released(released, declared.kind)
        return {**released.model_dump(mode="json"), "node": node, "attempt": run.attempt, "kind": declared.kind}

    def _absent(self, context: Context, node: str, path: str) -> str:
        """Why the node does not have the file that is to be released."""
        before = self.upstream_task_ids if self.has_dag() else []
        marked = markings.analyses_without(self.dag, context["ti"], before, node) if before else []
        if marked:
            return (
                f"The analysis of {node} (task {', '.join(marked)}) was marked by hand and made nothing: {path} is not"
                " there. Clear that task with what comes after it to run it."
            )
        return (
            f"node {node} has no {path}: the workflow declares this file for the release {self.release}, and no job has"
            " made it. Correct the Snakefile's targets, or the path in workflow.yaml."
        )
