"""A node's pods in a run: their names, which is the latest, and the steps that make a new one."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Protocol

from airflow.sdk.exceptions import AirflowException

from gdi.contracts import broker_api as m
from gdi.contracts.problems import FENCED, UID_PINNED
from gdi.contracts.process_host import StopMode
from gdi.kit.problem import ProblemError
from gdi.pods import generations
from gdi.pods.generations import MAX_GENERATIONS, TOO_MANY, name_of
from gdi_operators.hooks.token_broker import TokenBrokerHook
from gdi_operators.launchers import Launcher, LauncherError, PodSpec, PodStatus
from gdi_operators.retry import is_away, with_retry
from gdi_operators.settings import settings


class PodKeeper(Protocol):
    """What keeps pods: a Launcher, or a cluster (gdi_operators.kubernetes)."""

    def get(self, name: str) -> PodStatus | None:
        """The pod, or None where there is none of that name."""

    def of_attempt(self, run: str, node: str, attempt: int) -> dict[str, PodStatus]:
        """The pods that there are of a node's part of an attempt, by name."""

    def stop(self, name: str, *, mode: StopMode, grace: float, uid: str | None = None) -> None:
        """Asks for its end and insists after `grace` seconds; with `uid`, that pod's and no other's of the name."""


@dataclass(frozen=True)
class PodOrder:
    """A pod that is to be started: its generation at least, the node's part of the plan, the workflow's parameters,
    and what the run asks for its pod.
    """

    generation: int
    item: m.PlanItem
    parameters: dict[str, Any]
    pod: dict[str, Any] | None = None


class Pods:
    """The pods of one node in one attempt, numbered from 1: a replacement has the next number and fences those before
    it.
    """

    def __init__(self, launcher: PodKeeper, hook: TokenBrokerHook, run: m.Run, node: str) -> None:
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

    def spec(self, order: PodOrder, generation: int) -> PodSpec:
        """What the pod of that generation is to do."""
        return PodSpec(
            name=self.name(generation),
            run=self.run.id,
            attempt=self.run.attempt,
            node=self.node,
            workflow=self.run.workflow,
            digest=self.run.digest,
            datasets=list(order.item.datasets),
            gateway_url=order.item.gateway_url,
            audience=order.item.audience,
            parameters=order.parameters,
            pod=order.pod,
        )

    def launch(self, order: PodOrder) -> int:
        """Registers the name, makes the pod, pins its uid, lets it run; the generation that it has. Safe to repeat
        after any interruption.

        A generation that was used up by a pod that is gone (evicted, drained) is passed over. LauncherError,
        ProblemError.
        """
        launcher = self.launcher
        assert isinstance(launcher, Launcher)
        generation = self.register(order.generation)
        spec = self.spec(order, generation)
        name = self.launching = spec.name
        patience = settings().broker_patience
        status = with_retry("The launcher", lambda: launcher.create(spec), seconds=patience)
        self.pin(name, status.uid)
        if self.given_up:
            self.launcher.stop(name, mode="cancel", grace=0, uid=status.uid)
            raise AirflowException(f"The task was ended while pod {name} was made; the pod is not started.")
        with_retry("The launcher", lambda: launcher.start(name), seconds=patience)
        return generation

    def pin(self, name: str, uid: str) -> None:
        """From here on the broker gives tokens to this pod and to no other of its name. ProblemError where it refuses;
        then nobody will ever let the pod go, and it is stopped. Not where the broker knows another uid by this name:
        then it is somebody else's pod, which gets no token; or one that never left its gate, and goes by its age.
        """
        try:
            self.hook.put_workload(self.run.id, name, self._request(uid))
        except ProblemError as error:
            if not is_away(error) and error.slug != UID_PINNED:  # closed meanwhile, or fenced
                with suppress(Exception):  # the refusal is what matters
                    self.launcher.stop(name, mode="cancel", grace=0, uid=uid)
            raise

    def register(self, generation: int) -> int:
        """The generation, that one or a later, whose name the broker knows for this run and no gone pod used up."""
        while True:
            try:
                known = self.hook.put_workload(self.run.id, self.name(generation), self._request())
                if known.uid is None or self.get(generation) is not None:
                    return generation
            except ProblemError as error:
                if error.slug != FENCED:
                    raise
            if generation >= MAX_GENERATIONS:
                raise LauncherError(TOO_MANY)
            generation += 1

    def _request(self, uid: str | None = None) -> m.WorkloadRequest:
        return m.WorkloadRequest(node=self.node, attempt=self.run.attempt, uid=uid)
