"""SnakemakeOperator: one node's part of a run, as a Snakemake pod that outlives workers, schedulers and triggerers."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import Any, NoReturn

from airflow.sdk.exceptions import AirflowException, AirflowFailException, TaskDeferralTimeout

from gdi.contracts import broker_api as m
from gdi.kit.problem import ProblemError
from gdi.pods.generations import MAX_GENERATIONS, TOO_MANY
from gdi.pods.model import STOP_GRACE
from gdi_operators.hooks.token_broker import TokenBrokerHook
from gdi_operators.launchers import LauncherError, PodStatus, get_launcher
from gdi_operators.operators.base import RunOperator
from gdi_operators.pods import Pods
from gdi_operators.retry import is_away, short
from gdi_operators.runs import Context, entry_of, first_try, item_of, open_run, parameters_for_pod, read_conf, run_id_of
from gdi_operators.triggers.snakemake import SnakemakeTrigger, why


class SnakemakeOperator(RunOperator):
    """Starts the node's pod, defers until it ends, and judges its end. Map it over the plan:
    `SnakemakeOperator.partial(…).expand(item=admit.output)`.

    item: the node's part of the plan (AdmitRunOperator's result). launcher: `process` or another of GDI_LAUNCHER.
    max_relaunches: how often a pod that was lost (killed by a signal, with its host, or exit code 75) is replaced; the
    replacement fences it and goes on where it was. grace: seconds to cancel its TES tasks in. max_duration: after which
    the pod is stopped and the task fails.

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
        launcher: str | None = None,
        max_relaunches: int = 3,
        grace: float = STOP_GRACE,
        poll: float = 2,
        max_duration: timedelta = timedelta(days=14),
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.item = item
        self.launcher = launcher
        self.max_relaunches, self.grace, self.poll, self.max_duration = max_relaunches, grace, poll, max_duration
        self._launching: Pods | None = None

    def execute(self, context: Context) -> dict[str, Any]:
        with self._last_try(context), self.broker() as hook:
            run = open_run(hook, context, self.workflow)
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
                pods.launcher.stop(status.name, mode="cancel", grace=self.grace)
                self._defer(
                    run.attempt,
                    status.name,
                    {"attempt": run.attempt, "generation": generation, "stopped": reason},
                    watch_run=False,
                )
            if status is not None and status.succeeded:
                return self._result(run, status.name)
            if status is not None and status.ended and not (status.lost or status.stopping or first_try(context)):
                self._fail(
                    pods, generation, *self._reason(hook, run, status)
                )  # an earlier try of this task was lost before it could say so
            if status is None or status.ended:
                generation = self._launch(context, pods, generation + 1)
            elif status.state == "created":
                generation = self._launch(context, pods, generation)
            else:
                self.log.info("Pod %s is running already; waiting for it.", status.name)
        self._defer(run.attempt, pods.name(generation), {"attempt": run.attempt, "generation": generation})

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
            status = pods.get(generation)
            if event["kind"] == "away":
                raise AirflowException(
                    f"The launcher does not answer: {event['message']}. The pod is looked for again at the next try."
                )
            if event["kind"] in ("failing", "closed"):  # the trigger asked the pod to stop; it may have ended by now
                stopped = stopped or str(event["message"])
                if status is not None and not status.ended:
                    state["stopped"] = stopped
                    self.log.warning("Stopping pod %s: %s", status.name, stopped)
                    pods.launcher.stop(status.name, mode="cancel", grace=self.grace)
                    self._defer(attempt, status.name, state, watch_run=False)
            if status is not None and status.blocked and not stopped:
                pods.launcher.stop(status.name, mode="cancel", grace=self.grace)
                self._fail(pods, generation, f"its Snakemake pod cannot start: {status.reason}", None)
            if status is not None and not status.ended:  # a trigger that saw more than there was
                self._defer(attempt, status.name, state, watch_run=not stopped)
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
            generation = self._launch(context, pods, generation + 1)
        state.update(generation=generation, relaunches=relaunches + 1)
        self._defer(attempt, pods.name(generation), state)

    def resume_execution(
        self, next_method: str, next_kwargs: dict[str, Any] | None, context: Context
    ) -> Any:  # as Airflow declares it
        try:
            return super().resume_execution(next_method, next_kwargs, context)
        except TaskDeferralTimeout:
            with self.broker() as hook:
                run = hook.get_run(run_id_of(context))
                if run is not None:
                    pods = self._pods(hook, run)
                    generation, status = pods.latest()
                    if status is not None and not status.ended:
                        pods.launcher.stop(status.name, mode="cancel", grace=self.grace)
                    self._fail(pods, max(generation, 1), f"the pod did not end within {self.max_duration}", None)
            raise

    def on_kill(self) -> None:
        """The task was ended by a user while on a worker: its pod is stopped. (Deferred, its trigger does it.)"""
        if self._launching is not None:  # the launch goes on for some seconds after this
            self._launching.given_up = True
            if self._launching.launching:
                self._launching.launcher.stop(self._launching.launching, mode="cancel", grace=self.grace)

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

    @property
    def _node(self) -> str:
        return str(self.item["node"])

    def _pods(self, hook: TokenBrokerHook, run: m.Run) -> Pods:
        return Pods(get_launcher(self.launcher), hook, run, self._node)

    def _launch(self, context: Context, pods: Pods, generation: int) -> int:
        if generation > MAX_GENERATIONS:
            self._fail(
                pods,
                generation,
                TOO_MANY,
                None,
            )
        entry = entry_of(self.workflow)
        request = read_conf(context["dag_run"].conf, entry)
        self._launching = pods
        try:
            generation = pods.launch(
                generation,
                item_of(pods.run, self._node),
                parameters_for_pod(request, entry),
                request.parameters.get("pod"),
            )
        except (LauncherError, ProblemError) as error:
            if is_away(error):
                raise
            self._fail(pods, generation, f"the Snakemake pod could not be started: {short(error)}", None)
        self.log.info("Started pod %s.", pods.name(generation))
        return generation

    def _defer(self, attempt: int, pod: str, state: dict[str, Any], *, watch_run: bool = True) -> NoReturn:
        deadline = state.get("deadline") or time.time() + self.max_duration.total_seconds()
        trigger = SnakemakeTrigger(
            run=str(self.item["run"]),
            attempt=attempt,
            node=self._node,
            pod=pod,
            launcher=self.launcher,
            token_broker_conn_id=self.token_broker_conn_id,
            watch_run=watch_run,
            grace=self.grace,
            poll=self.poll,
            state={**state, "deadline": deadline},
        )
        self.defer(trigger=trigger, method_name="resume", timeout=timedelta(seconds=max(5, deadline - time.time())))
        raise AssertionError("defer does not return")

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


def _how(status: PodStatus) -> str:
    if status.reason:
        return status.reason
    if status.signal is not None:
        return f"was killed by signal {status.signal}"
    if status.state == "lost":
        return "was lost with its host"
    return f"ended with exit code {status.exit_code}"
