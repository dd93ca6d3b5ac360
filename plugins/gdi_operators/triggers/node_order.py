"""NodeOrderTrigger: waits for the end of a node's order, by the run's one poll, with no worker."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

import httpx
from airflow.triggers.base import BaseTrigger, TriggerEvent

from gdi.contracts.orders import ENDED_ORDER, OrderKind
from gdi.contracts.progress import Progress
from gdi.kit.problem import ProblemError
from gdi_operators.hooks.token_broker import TokenBrokerHook
from gdi_operators.progress_poller import Snapshot, follow
from gdi_operators.retry import short
from gdi_operators.triggers.deferral_race import DeferralRace
from gdi_operators.triggers.snakemake import STATE_PATIENCE, STOP_PATIENCE, STOP_PAUSE, why
from gdi_operators.triggers.still_deferred import still_deferred


class NodeOrderTrigger(BaseTrigger):
    """Yields one event `{"kind", "message", "state"}`: `ended` (the order), and with `watch_run`: `failing` (the run
    cannot succeed any more for another node), `closed` (the attempt), `late` (enough others have done their part, and
    the time of `state["late"]` is over). `state` comes back as it was given. A user who
    ends the deferred task ends the order; a triggerer that dies or restarts changes nothing.
    """

    def __init__(
        self,
        *,
        run: str,
        attempt: int,
        node: str,
        kind: OrderKind,
        token_broker_conn_id: str | None = None,
        watch_run: bool = True,
        state: dict[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.run_id, self.attempt, self.node, self.kind = run, attempt, node, kind
        self.token_broker_conn_id, self.watch_run = token_broker_conn_id, watch_run
        self.state = state or {}
        self._last_text = ""

    def serialize(self) -> tuple[str, dict[str, Any]]:
        return f"{type(self).__module__}.{type(self).__name__}", {
            "run": self.run_id,
            "attempt": self.attempt,
            "node": self.node,
            "kind": self.kind,
            "token_broker_conn_id": self.token_broker_conn_id,
            "watch_run": self.watch_run,
            "state": self.state,
        }

    async def run(self) -> AsyncIterator[TriggerEvent]:
        settled = DeferralRace()
        began = time.monotonic()
        async with follow(self.run_id, conn_id=self.token_broker_conn_id) as feed:
            verdict, since = None, began
            while verdict is None:
                snapshot = await feed.newer(since)
                since = snapshot.requested_at
                verdict = self._look(snapshot)
        await settled.wait()
        kind, message = verdict
        yield TriggerEvent({"kind": kind, "message": message, "state": self.state})

    async def on_kill(self) -> None:
        """The user ended the task: the order's end is asked for, for as long as Airflow waits for this."""
        end = time.monotonic() + STOP_PATIENCE
        if await still_deferred(self.task_instance, patience=STATE_PATIENCE):
            self.log.info("The task still waits for its order, with another trigger; it is left alone.")
            return
        client = await TokenBrokerHook(self.token_broker_conn_id).aget_conn()
        try:
            while True:
                try:
                    why_now = "the task was ended in Airflow"
                    await client.cancel_order(self.run_id, self.node, self.kind, self.attempt, why_now)
                    return
                except (httpx.TransportError, ProblemError) as error:
                    if end - time.monotonic() < 2 * STOP_PAUSE:
                        self.log.error("The order at %s could not be ended (%s).", self.node, short(error))
                        return
                await asyncio.sleep(STOP_PAUSE)
        finally:
            await client.aclose()

    def _look(self, snapshot: Snapshot) -> tuple[str, str] | None:
        progress = snapshot.progress
        if progress is None:
            self._say(
                f"The broker {'does not answer' if snapshot.away else 'refuses'} ({snapshot.trouble}); the node goes"
                " on, waiting."
            )
            return None
        mine = next((o for o in progress.orders if (o.node, o.kind) == (self.node, self.kind)), None)
        if progress.attempt > self.attempt:
            return "closed", f"attempt {self.attempt} was closed"
        if mine is not None and mine.attempt == self.attempt and mine.state in ENDED_ORDER:
            return "ended", ""
        if self.watch_run and progress.state == "closed":
            return "closed", f"attempt {self.attempt} was closed"
        if self.watch_run and progress.failing is not None and progress.failing.node != self.node:
            return "failing", why(progress.failing)
        if self.watch_run and self._is_late(progress):
            return "late", ""
        if mine is not None and mine.detail.startswith("awaiting-review"):
            self._say(f"{self.node}: the release {mine.detail.partition(': ')[2]} waits for a reviewer of the node")
            return None
        for node in progress.nodes:
            if node.node == self.node:
                order = f"order {mine.state}" if mine is not None else "no order"
                self._say(f"{node.node}: {order}; {node.state}, {node.done} of {node.total} jobs done")
        return None

    def _is_late(self, progress: Progress) -> bool:
        late = self.state.get("late")
        if not late or time.time() < float(late["at"]):
            return False
        if self.kind == "analyse":
            done = {node.node for node in progress.nodes if node.state == "success"}
        else:
            done = {o.node for o in progress.orders if o.kind == self.kind and o.state == "succeeded"}
        return len(done - {self.node}) >= int(late["at_least"])

    def _say(self, text: str) -> None:
        if text != self._last_text:
            self._last_text = text
            self.log.info("%s", text)
