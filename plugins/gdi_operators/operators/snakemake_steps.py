"""What both Snakemake operators do with a node's part of a run: whether to start a pod, how its end is judged, when it
is replaced, and who is told. How a pod is made and waited for, each of them says.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import Any, NoReturn

from airflow.sdk.exceptions import AirflowException, AirflowFailException, TaskDeferralTimeout

from gdi.contracts import broker_api as m
from gdi.contracts.orders import ENDED_ORDER, OrderStatus
from gdi.kit.problem import ProblemError
from gdi.pods.generations import MAX_GENERATIONS, TOO_MANY
from gdi.pods.model import STOP_GRACE, LauncherError, PodStatus
from gdi_operators.admitted_workflow import entry_of_run
from gdi_operators.hooks.token_broker import TokenBrokerHook
from gdi_operators.operators.node_order import OrderSteps
from gdi_operators.pods import PodOrder, Pods
from gdi_operators.retry import is_away, short
from gdi_operators.runs import NODE, Context, first_try, item_of, open_run, parameters_for_pod, read_conf, run_id_of
from gdi_operators.triggers.snakemake import why


class SnakemakeSteps(OrderSteps):
    """item: the node's part of the plan (AdmitRunOperator's result). max_relaunches: how often a pod that was lost
    (killed by a signal, with its host, or exit code 75) is replaced; the replacement fences it and goes on where it
    was. grace: seconds to cancel its TES tasks in. poll: seconds between two looks. max_duration: after which the pod
    is stopped and the task fails.

    Whatever is killed meanwhile, the next execution finds the running pod by its name and goes on waiting for it. A pod
    that fails (exit code 1 or 2) fails the task without retry, with the reason that it told the broker, and the other
    nodes' pods are stopped. A cleared task resumes Snakemake in the same work folder, in a new attempt where the old
    one is closed or failed; a retry stays in the attempt. Result: `{node, attempt, pod}`.
    """

    template_fields = ("item",)

    def __init__(
        self,
        *,
        item: dict[str, Any],
        max_relaunches: int = 3,
        grace: float = STOP_GRACE,
        poll: float = 2,
        max_duration: timedelta = timedelta(days=14),
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.item = item
        self.max_relaunches, self.grace, self.poll, self.max_duration = max_relaunches, grace, poll, max_duration

    # --- what each operator says -----------------------------------------------------------------

    def _pods(self, hook: TokenBrokerHook, run: m.Run) -> Pods:
        """The node's pods in the run's attempt."""
        raise NotImplementedError

    def _start(self, context: Context, pods: Pods, order: PodOrder, state: dict[str, Any]) -> NoReturn:
        """Starts the pod of that order, or of a later generation, and waits for it."""
        raise NotImplementedError

    def _wait(
        self, context: Context, pods: Pods, status: PodStatus | None, state: dict[str, Any], *, watch_run: bool = True
    ) -> NoReturn:
        """Defers until the pod of state["generation"] ends. `status`: as it was seen last."""
        raise NotImplementedError

    # --- execution and re-entry ------------------------------------------------------------------

    def execute(self, context: Context) -> dict[str, Any]:
        with self._last_try(context), self.broker() as hook:
            run = open_run(hook, context, self.workflow)
            if item_of(run, self._node).placement == NODE:
                return self._ordered(hook, context, run)
            pods = self._pods(hook, run)
            generation, status = pods.latest()
            if run.failing is not None:
                if status is None or status.ended:
                    if status is not None and not status.succeeded and run.failing.node != self._node:
                        self._say_stopped(status.name, why(run.failing))  # the try that stopped it was lost
                    raise AirflowFailException(
                        f"not started: {why(run.failing)}. To run it again, clear this task with its downstream tasks."
                    )
                reason = why(run.failing)  # an earlier try of this task was lost before it could stop its pod
                self.log.warning("Stopping pod %s: %s", status.name, reason)
                pods.launcher.stop(status.name, mode="cancel", grace=self.grace, uid=status.uid)
                state = {"attempt": run.attempt, "generation": generation, "stopped": reason}
                self._wait(context, pods, status, state, watch_run=False)
            if status is not None and status.succeeded:
                return self._result(run, status.name)
            if status is not None and status.ended and not (status.lost or status.stopping or first_try(context)):
                self._fail(
                    pods, generation, *self._reason(hook, run, status)
                )  # an earlier try of this task was lost before it could say so
            state = {"attempt": run.attempt, "generation": generation}
            if status is None or status.ended:
                self._launch(context, pods, generation + 1, state)
            if status.state == "created":
                self._launch(context, pods, generation, state)
            self.log.info("Pod %s is running already; waiting for it.", status.name)
            self._wait(context, pods, status, state)

    def _ordered(self, hook: TokenBrokerHook, context: Context, run: m.Run) -> dict[str, Any]:
        """The node's own agent starts Snakemake: what is asked for is an order."""
        if run.failing is not None:
            self.stop_for(hook, run, "analyse")
        status = self.put_order(hook, context, run, "analyse", lasting=self.max_duration)
        if status.state in ENDED_ORDER:
            return self.judge_order(run, status, "")
        self.log.info("Order analyse, attempt %d, for %s: %s.", status.attempt, self._node, status.state)
        self.wait_for_order(status, self.patience(run))

    def without(self, run: m.Run, reason: str) -> dict[str, Any]:
        """No skip: what follows would be skipped for all nodes."""
        return {"node": self._node, "attempt": run.attempt, "pod": "", "missing": reason}

    def order_result(self, run: m.Run, status: OrderStatus) -> dict[str, Any]:
        self.log.info("%s has done its part.", self._node)
        return {"node": self._node, "attempt": status.attempt, "pod": ""}

    def resume(self, context: Context, event: dict[str, Any]) -> dict[str, Any]:
        """Where the task goes on after the trigger, with the state that the event brings back."""
        state: dict[str, Any] = dict(event["state"])
        attempt, generation = int(state["attempt"]), int(state["generation"])
        relaunches, stopped = (
            int(state.get("relaunches", 0)),
            str(state.get("stopped", "")),
        )  # stopped: why the pod was told to end, where it was
        with self._last_try(context), self.broker() as hook:
            run = hook.get_run(run_id_of(context))
            if run is None:
                raise AirflowFailException("The broker does not know the run any more.")
            pods = self._pods(hook, run.model_copy(update={"attempt": attempt}))
            status = _seen(pods.get(generation), state, event)
            if event["kind"] == "away":
                raise AirflowException(
                    f"The launcher does not answer: {event['message']}. The pod is looked for again at the next try."
                )
            if event["kind"] == "overdue":
                if status is not None and not status.ended:
                    pods.launcher.stop(status.name, mode="cancel", grace=self.grace, uid=status.uid)
                self._fail(pods, generation, f"the pod did not end within {event['message']}", None)
            if event["kind"] in ("failing", "closed"):  # the trigger asked the pod to stop; it may have ended by now
                stopped = stopped or str(event["message"])
                if status is not None and not status.ended:
                    state["stopped"] = stopped
                    self.log.warning("Stopping pod %s: %s", status.name, stopped)
                    pods.launcher.stop(status.name, mode="cancel", grace=self.grace, uid=status.uid)
                    self._wait(context, pods, status, state, watch_run=False)
            if status is not None and status.blocked and not stopped:
                pods.launcher.stop(status.name, mode="cancel", grace=self.grace, uid=status.uid)
                self._fail(pods, generation, f"its Snakemake pod cannot start: {status.reason}", None)
            if status is not None and not status.ended:  # a trigger that saw more than there was
                self._wait(context, pods, status, state, watch_run=not stopped)
            if status is not None and status.succeeded:
                return self._result(run, status.name)
            if not stopped and (run.attempt > attempt or run.state == "closed"):
                stopped = f"attempt {attempt} was closed"
            elif not stopped and run.failing is not None and run.failing.node != self._node:
                stopped = why(run.failing)
            if stopped:
                self._say_stopped(pods.name(generation), stopped)
                raise AirflowFailException(f"stopped: {stopped}")
            if run.failing is not None or (status is not None and not status.lost and not status.stopping):
                self._fail(pods, generation, *self._reason(hook, run, status))
            lost = "is gone" if status is None else _how(status)
            if relaunches >= self.max_relaunches:
                self._fail(
                    pods, generation, f"the Snakemake pod {lost} {relaunches + 1} times; it is not started again", None
                )
            self.log.warning(
                "Pod %s %s; starting its replacement (%d of %d).",
                pods.name(generation),
                lost,
                relaunches + 1,
                self.max_relaunches,
            )
            self._launch(context, pods, generation + 1, {**state, "relaunches": relaunches + 1})

    def resume_execution(
        self, next_method: str, next_kwargs: dict[str, Any] | None, context: Context
    ) -> Any:  # as Airflow declares it
        try:
            return super().resume_execution(next_method, next_kwargs, context)
        except TaskDeferralTimeout:
            with self.broker() as hook:
                run = hook.get_run(run_id_of(context))
                if run is not None and item_of(run, self._node).placement != NODE:
                    pods = self._pods(hook, run)
                    generation, status = pods.latest()
                    if status is not None and not status.ended:
                        pods.launcher.stop(status.name, mode="cancel", grace=self.grace, uid=status.uid)
                    self._fail(pods, max(generation, 1), f"the pod did not end within {self.max_duration}", None)
            raise

    # --- steps -----------------------------------------------------------------------------------

    @contextmanager
    def _last_try(self, context: Context) -> Iterator[None]:
        """Airflow tries again where a server is away. After the last try the other nodes must not go on for a run that
        cannot succeed any more.
        """
        try:
            yield
        except AirflowFailException:
            raise
        except AirflowException as error:
            if context["ti"].try_number > context["ti"].max_tries:
                self.log.error(
                    "This was the last try: the run cannot succeed. Clear this task to go on once the reason is gone."
                )
                with suppress(AirflowException), self.broker() as hook:
                    self._tell(hook, f"gave up after {context['ti'].try_number} tries: {error}", None, "last-try")
            raise

    def _launch(self, context: Context, pods: Pods, generation: int, state: dict[str, Any]) -> NoReturn:
        """Starts a pod and waits for it; a refusal fails the task for good."""
        if generation > MAX_GENERATIONS:
            self._fail(pods, generation, TOO_MANY, None)
        entry = entry_of_run(self.workflow, pods.run)
        request = read_conf(context["dag_run"].conf, entry)
        item = item_of(pods.run, self._node)
        order = PodOrder(generation, item, parameters_for_pod(request, entry), request.parameters.get("pod"))
        try:
            self.admit_cohort(pods.hook, pods.run, item, entry, request)
            self._start(context, pods, order, state)
        except (LauncherError, ProblemError) as error:
            if is_away(error):
                raise
            self._fail(pods, generation, f"the Snakemake pod could not be started: {short(error)}", None)

    def _deadline(self, state: dict[str, Any]) -> float:
        """When the pod must have ended (seconds since the epoch): set at the first deferral, kept by those after it."""
        return float(state.get("deadline") or time.time() + self.max_duration.total_seconds())

    def _reason(self, hook: TokenBrokerHook, run: m.Run, status: PodStatus | None) -> tuple[str, str | None]:
        """What the node told the broker about its failure: (reason, dataset)."""
        if run.failing is not None and run.failing.node == self._node:
            return run.failing.reason, run.failing.dataset
        for node in hook.progress(run.id).nodes:
            if node.node == self._node and node.message:
                return node.message, node.dataset
        return f"Snakemake {_how(status) if status else 'is gone'}; its log is kept beside the pod", None

    def _fail(self, pods: Pods, generation: int, reason: str, dataset: str | None) -> NoReturn:
        """Tells the other nodes by way of the broker, then fails for good."""
        self._tell(pods.hook, reason, dataset, generation)
        raise AirflowFailException(f"node {self._node} failed: {reason}" + (f" (dataset {dataset})" if dataset else ""))

    def _tell(self, hook: TokenBrokerHook, reason: str, dataset: str | None, number: int | str) -> None:
        event = m.Event(seq=1, time=time.time(), kind="node", state="failed", message=reason[:2000], dataset=dataset)
        source = f"airflow-{self._node}-{number}"  # numbered apart, so that two nodes' first events are two events
        try:
            hook.post_events(str(self.item["run"]), m.EventBatch(source=source, node=self._node, events=[event]))
        except Exception as error:  # the failure itself matters more than telling of it
            self.log.error("The failure could not be told to the broker: %s", short(error))

    def _say_stopped(self, pod: str, reason: str) -> None:
        """The same line in every order of events. It comes from the worker, as Airflow may drop a trigger's last lines
        (it closes that log when the trigger ends) and a second deferral's trigger overwrites the first one's log.
        """
        self.log.warning("Pod %s is stopped: %s", pod, reason)

    def _result(self, run: m.Run, pod: str) -> dict[str, Any]:
        self.log.info("Pod %s succeeded.", pod)
        return {"node": self._node, "attempt": run.attempt, "pod": pod}


def _seen(status: PodStatus | None, state: dict[str, Any], event: dict[str, Any]) -> PodStatus | None:
    """The pod that was waited for, as it is now; where it is gone, as its trigger saw it end. A pod of another uid is
    not it.
    """
    uid = state.get("uid")
    if status is not None and (uid is None or status.uid == uid):
        return status
    verdict = event.get("status")
    return None if verdict is None else PodStatus(**verdict)


def _how(status: PodStatus) -> str:
    if status.reason:
        return status.reason
    if status.signal is not None:
        return f"was killed by signal {status.signal}"
    if status.state == "lost":
        return "was lost with its host"
    return f"ended with exit code {status.exit_code}"
