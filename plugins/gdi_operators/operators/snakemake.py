"""SnakemakeOperator: one node's part of a run, as a Snakemake pod that outlives workers, schedulers and triggerers."""

from __future__ import annotations

import time
from datetime import timedelta
from typing import Any, NoReturn

from gdi.contracts import broker_api as m
from gdi.pods.model import PodStatus
from gdi_operators.hooks.token_broker import TokenBrokerHook
from gdi_operators.launchers import get_launcher
from gdi_operators.operators.snakemake_steps import SnakemakeSteps
from gdi_operators.pods import PodOrder, Pods
from gdi_operators.runs import Context
from gdi_operators.triggers.snakemake import SnakemakeTrigger


class SnakemakeOperator(SnakemakeSteps):
    """Starts the node's pod as a sandboxed process, defers until it ends, and judges its end. Map it over the plan:
    `SnakemakeOperator.partial(…).expand(item=admit.output)`. In Kubernetes use SnakemakePodOperator.

    launcher: `process`, or another that GDI_LAUNCHER may name. The other parameters are those of SnakemakeSteps.
    """

    def __init__(self, *, launcher: str | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.launcher = launcher
        self._launching: Pods | None = None

    def on_kill(self) -> None:
        """The task was ended by a user while on a worker: its pod is stopped. (Deferred, its trigger does it.)"""
        if self._launching is not None:  # the launch goes on for some seconds after this
            self._launching.given_up = True
            if self._launching.launching:
                self._launching.launcher.stop(self._launching.launching, mode="cancel", grace=self.grace)

    def _pods(self, hook: TokenBrokerHook, run: m.Run) -> Pods:
        return Pods(get_launcher(self.launcher), hook, run, self._node)

    def _start(self, context: Context, pods: Pods, order: PodOrder, state: dict[str, Any]) -> NoReturn:
        self._launching = pods
        generation = pods.launch(order)
        self.log.info("Started pod %s.", pods.name(generation))
        self._wait(context, pods, None, {**state, "generation": generation})

    def _wait(
        self, context: Context, pods: Pods, status: PodStatus | None, state: dict[str, Any], *, watch_run: bool = True
    ) -> NoReturn:
        deadline = self._deadline(state)
        trigger = SnakemakeTrigger(
            run=str(self.item["run"]),
            attempt=int(state["attempt"]),
            node=self._node,
            pod=pods.name(int(state["generation"])),
            launcher=self.launcher,
            token_broker_conn_id=self.token_broker_conn_id,
            watch_run=watch_run,
            grace=self.grace,
            poll=self.poll,
            state={**state, "deadline": deadline},
        )
        self.defer(trigger=trigger, method_name="resume", timeout=timedelta(seconds=max(5, deadline - time.time())))
        raise AssertionError("defer does not return")
