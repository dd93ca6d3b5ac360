"""SnakemakeTrigger: waits for a node's pod to end, or for the run to fail elsewhere, with no worker; logs progress as
it comes.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import time
from collections.abc import AsyncIterator
from dataclasses import asdict
from typing import Any, Protocol

import httpx
from airflow.triggers.base import BaseTrigger, TriggerEvent

from gdi.contracts import broker_api as m
from gdi.contracts.process_host import StopMode
from gdi.kit.problem import ProblemError
from gdi.pods.model import STOP_GRACE, LauncherError, PodStatus
from gdi_operators.launchers import get_launcher
from gdi_operators.progress_poller import ProgressPoller, Snapshot, follow
from gdi_operators.retry import short
from gdi_operators.triggers.deferral_race import DeferralRace
from gdi_operators.triggers.still_deferred import still_deferred

MAX_LINES, MAX_LINE = 200, 2000  # of a pod's log at each look, characters of each
PRINTABLE = re.compile(r"[^\t\x20-\x7e\u00a0-\uffff]")  # what a workflow prints steers no terminal
LOG_PAUSE = 5.0  # seconds between looks at the pod's log
# Seconds within which a user's stop is tried again, for one try, and between two: Airflow gives on_kill 30
# (on_kill_timeout), one call may last longer. STATE_PATIENCE of them at most to hear the task's state.
STOP_PATIENCE, STATE_PATIENCE, STOP_TRY, STOP_PAUSE = 25.0, 8.0, 8.0, 1.0
LAUNCHER_PATIENCE = 600.0  # seconds without an answer, after which a worker looks at it


class PodWatcher(Protocol):
    """What a trigger does with a pod, on its event loop: a Launcher, or a cluster (gdi_operators.kubernetes)."""

    async def aget(self, name: str) -> PodStatus | None:
        """The pod, or None where there is none of that name."""

    async def astop(self, name: str, *, mode: StopMode, grace: float) -> None:
        """Asks for its end and insists after `grace` seconds."""

    async def alog(self, name: str, since: str, *, ended: bool = False) -> tuple[list[str], str]:
        """(lines of its log after `since`, the next `since`)."""

    async def aclose(self) -> None:
        """Ends what the calls keep open."""


class SnakemakeTrigger(BaseTrigger):
    """Yields one event `{"kind", "message", "state", "status"}`: the state as it was given; how the pod ended, where it
    did. Kinds: `ended` (the pod), `gone` (no such pod), `blocked` (it cannot start), `overdue` (its time is over),
    `away` (the launcher, for ten minutes), and with `watch_run`: `failing` (another node failed), `closed` (the
    attempt). The broker is asked by the run's one poll (feed.py); that it is away
    is waited out: the pod's end comes from the launcher.

    The pod is asked to stop with `failing` and `closed`, before the event, as nobody resumes a task that a user has
    ended meanwhile; and when a user ends the deferred task (mark failed, clear). A triggerer that dies, restarts, or
    stalls until another has its triggers, leaves it alone.
    """

    def __init__(
        self,
        *,
        run: str,
        attempt: int,
        node: str,
        pod: str,
        launcher: str | None = None,
        token_broker_conn_id: str | None = None,
        watch_run: bool = True,
        grace: float = STOP_GRACE,
        poll: float = 2,
        state: dict[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.run_id, self.attempt, self.node, self.pod = run, attempt, node, pod
        self.launcher, self.token_broker_conn_id = launcher, token_broker_conn_id
        self.watch_run, self.grace, self.poll = watch_run, grace, poll
        self.state = state or {}  # in the event, not in next_kwargs, which dag.test() drops
        self._last_text = ""
        self._since = ""
        self._verdict: PodStatus | None = None  # how the pod ended, for whoever resumes the task when it is gone

    def serialize(self) -> tuple[str, dict[str, Any]]:
        return f"{type(self).__module__}.{type(self).__name__}", {
            "run": self.run_id,
            "attempt": self.attempt,
            "node": self.node,
            "pod": self.pod,
            "launcher": self.launcher,
            "token_broker_conn_id": self.token_broker_conn_id,
            "watch_run": self.watch_run,
            "grace": self.grace,
            "poll": self.poll,
            "state": self.state,
        }

    async def run(self) -> AsyncIterator[TriggerEvent]:
        settled = DeferralRace()
        launcher = self._watch()
        try:
            async with follow(self.run_id, conn_id=self.token_broker_conn_id) as feed:
                kind, message = await self._wait(launcher, feed)
            if kind in ("failing", "closed", "overdue"):
                why_now = f"it did not end within {message}" if kind == "overdue" else message
                self.log.warning("Stopping pod %s: %s", self.pod, why_now)
                with contextlib.suppress(
                    httpx.TransportError, ProblemError, LauncherError
                ):  # whoever resumes the task tries it too, and says why
                    await launcher.astop(self.pod, mode="cancel", grace=self.grace)
        finally:
            await launcher.aclose()
        await settled.wait()
        verdict = None if self._verdict is None else asdict(self._verdict)
        yield TriggerEvent({"kind": kind, "message": message, "state": self.state, "status": verdict})

    async def on_kill(self) -> None:
        """The user ended the task: the pod cancels its TES tasks and ends. It is asked again for as long as Airflow
        waits for this. A pod for which the task still waits is left alone: another triggerer has it (still_deferred).
        """
        end = time.monotonic() + STOP_PATIENCE
        if await still_deferred(self.task_instance, patience=STATE_PATIENCE):
            self.log.info("The task still waits for pod %s, with another trigger; it is left alone.", self.pod)
            return
        launcher = self._watch()
        try:
            await self._insist(launcher, end)
        finally:
            await launcher.aclose()

    def _watch(self) -> PodWatcher:
        """What looks at the pod, for as long as this trigger runs."""
        return get_launcher(self.launcher)

    def _overdue(self) -> str:
        """The time that the pod had, where it is over."""
        return ""

    async def _insist(self, launcher: PodWatcher, end: float) -> None:
        while True:
            try:
                async with asyncio.timeout(min(STOP_TRY, end - time.monotonic())):
                    await launcher.astop(self.pod, mode="cancel", grace=self.grace)
                return
            except (httpx.TransportError, ProblemError, LauncherError, TimeoutError) as error:
                if isinstance(error, LauncherError) or end - time.monotonic() < 2 * STOP_PAUSE:
                    after = (
                        "its TES tasks are cancelled when the run is closed (task close); if the pod still runs then,"
                        " delete it"
                    )
                    self.log.error("Pod %s could not be asked to stop (%s): %s.", self.pod, short(error), after)
                    return
                self.log.warning("Pod %s is not asked to stop yet (%s); trying again.", self.pod, short(error))
            await asyncio.sleep(STOP_PAUSE)

    async def _wait(self, launcher: PodWatcher, feed: ProgressPoller) -> tuple[str, str]:
        start = answered = next_look = time.monotonic()
        while True:
            try:
                status = await launcher.aget(self.pod)
                answered = time.monotonic()
            except (httpx.TransportError, ProblemError, LauncherError) as error:
                if time.monotonic() - answered > LAUNCHER_PATIENCE or isinstance(error, LauncherError):
                    return "away", short(error)
                self._say(f"The launcher does not answer ({short(error)}); waiting for it.")
            else:
                if status is None:
                    return "gone", f"There is no pod {self.pod}."
                if status.ended or time.monotonic() >= next_look:
                    await self._follow(launcher, status)
                    next_look = time.monotonic() + LOG_PAUSE
                if status.ended:
                    self._verdict = status
                    return "ended", ""
                if status.blocked:
                    return "blocked", status.reason
                if status.reason:
                    self._say(f"Pod {self.pod} does not run yet: {status.reason}")
            if allowed := self._overdue():
                return "overdue", allowed
            snapshot = feed.latest(start)
            verdict = self._look(snapshot) if snapshot is not None else None
            if verdict and self.watch_run:
                return verdict
            await asyncio.sleep(self.poll)

    async def _follow(self, launcher: PodWatcher, status: PodStatus) -> None:
        """The pod's own log as it comes, bounded; at its end what is left of it. Never a reason to fail."""
        if status.reason and not status.ended:
            return
        with contextlib.suppress(httpx.TransportError, ProblemError, LauncherError):
            lines, self._since = await launcher.alog(self.pod, self._since, ended=status.ended)
            for line in lines[-MAX_LINES:]:
                self.log.info("%s | %s", self.node, PRINTABLE.sub("?", line[:MAX_LINE]))

    def _look(self, snapshot: Snapshot) -> tuple[str, str] | None:
        progress = snapshot.progress
        if progress is None:
            self._say(
                f"The broker {'does not answer' if snapshot.away else 'refuses'} ({snapshot.trouble}); the pod goes on,"
                " waiting."
            )
            return None
        if progress.attempt > self.attempt or progress.state == "closed":
            return "closed", f"attempt {self.attempt} was closed"
        if progress.failing is not None and progress.failing.node != self.node:
            return "failing", why(progress.failing)
        for node in progress.nodes:
            if node.node == self.node:
                self._say(f"{node.node}: {node.state}, {node.done} of {node.total} jobs done")
        return None

    def _say(self, text: str) -> None:
        if text != self._last_text:
            self._last_text = text
            self.log.info("%s", text)


def why(failing: m.Failing) -> str:
    """Why a run cannot succeed, in a line; what a node said is bounded by the broker's model."""
    return f"node {failing.node} failed: {failing.reason}" + (
        f" (dataset {failing.dataset})" if failing.dataset else ""
    )
