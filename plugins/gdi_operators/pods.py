"""A node's pods in a run: their names, which is the latest, and the steps that make a new one."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from airflow.sdk.exceptions import AirflowException

from gdi.contracts import broker_api as m
from gdi.contracts.problems import FENCED
from gdi.kit.problem import ProblemError
from gdi.pods import generations
from gdi.pods.generations import MAX_GENERATIONS, TOO_MANY, name_of
from gdi_operators.hooks.token_broker import TokenBrokerHook
from gdi_operators.launchers import Launcher, LauncherError, PodSpec, PodStatus
from gdi_operators.retry import is_away, with_retry
from gdi_operators.settings import settings


class Pods:
    """The pods of one node in one attempt, numbered from 1: a replacement has the next number and fences those before
    it.
    """

    def __init__(self, launcher: Launcher, hook: TokenBrokerHook, run: m.Run, node: str) -> None:
        self.launcher, self.hook, self.run, self.node = launcher, hook, run, node
        self.launching = ""  # the pod that is being made
        self.given_up = False  # the task is ended meanwhile: no pod is let go any more

    def name(self, generation: int) -> str:
        return name_of(self.run.id, self.node, self.run.attempt, generation)

    def latest(self) -> tuple[int, PodStatus | None]:
        """(generation, status) of the newest pod; (0, None) where there is none."""
        run = self.run
        pods = with_retry(
            "The launcher",
            lambda: self.launcher.of_attempt(run.id, self.node, run.attempt),
            seconds=settings().broker_patience,
        )
        return generations.latest(pods)

    def get(self, generation: int) -> PodStatus | None:
        name = self.name(generation)
        return with_retry("The launcher", lambda: self.launcher.get(name), seconds=settings().broker_patience)

    def launch(
        self, generation: int, item: m.PlanItem, parameters: dict[str, Any], pod: dict[str, Any] | None = None
    ) -> int:
        """Registers the name, makes the pod, pins its uid, lets it run; the generation that it has. Safe to repeat
        after any interruption.

        A generation that was used up by a pod that is gone (evicted, drained) is passed over. LauncherError,
        ProblemError.
        """
        request = m.WorkloadRequest(node=self.node, attempt=self.run.attempt)
        generation = self._register(generation, request)
        name = self.launching = self.name(generation)
        spec = PodSpec(
            name=name,
            run=self.run.id,
            attempt=self.run.attempt,
            node=self.node,
            workflow=self.run.workflow,
            digest=self.run.digest,
            datasets=list(item.datasets),
            gateway_url=item.gateway_url,
            audience=item.audience,
            parameters=parameters,
            pod=pod,
        )
        patience = settings().broker_patience
        status = with_retry("The launcher", lambda: self.launcher.create(spec), seconds=patience)
        try:
            self.hook.put_workload(self.run.id, name, request.model_copy(update={"uid": status.uid}))
        except ProblemError as error:
            if not is_away(error):  # closed meanwhile, or fenced: nobody will ever let this pod go
                with suppress(Exception):  # the refusal is what matters
                    self.launcher.stop(name, mode="cancel", grace=0)
            raise
        if self.given_up:
            self.launcher.stop(name, mode="cancel", grace=0)
            raise AirflowException(f"The task was ended while pod {name} was made; the pod is not started.")
        with_retry("The launcher", lambda: self.launcher.start(name), seconds=patience)
        return generation

    def _register(self, generation: int, request: m.WorkloadRequest) -> int:
        while True:
            try:
                known = self.hook.put_workload(self.run.id, self.name(generation), request)
                if known.uid is None or self.get(generation) is not None:
                    return generation
            except ProblemError as error:
                if error.slug != FENCED:
                    raise
            if generation >= MAX_GENERATIONS:
                raise LauncherError(TOO_MANY)
            generation += 1
