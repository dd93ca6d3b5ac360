"""One poll of the broker for each run, however many triggers want to know about it; in all runs together no more than a
few requests a second.

Lives in the triggerer's event loop. A trigger enters `follow(…)` and asks for `newer()` snapshots; the first to come
starts the poll, the last to leave ends it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import asdict, dataclass, replace
from typing import Any
from weakref import WeakKeyDictionary

from gdi.broker_client.client import AsyncBrokerClient
from gdi.contracts import broker_api as m
from gdi.kit.problem import ProblemError
from gdi_operators.hooks.token_broker import TokenBrokerHook
from gdi_operators.retry import is_away, short
from gdi_operators.settings import settings

FASTEST = 2.0  # seconds between two polls of one run
AT_ONCE = 0.5  # a trigger that just came need not wait for the next one
AIRFLOW_EVERY = 20.0  # seconds between two looks at Airflow's own state of the run
ENDED = {"success", "failed", "skipped", "upstream_failed", "removed"}


@dataclass(frozen=True)
class InAirflow:
    """The run in Airflow, and the tasks that begin and end it: what the broker says of it counts only once it is
    admitted (again), and where the broker cannot be asked, nobody need wait when it is over."""

    dag_id: str
    dag_run_id: str
    admit: str
    close: str


@dataclass(frozen=True)
class Snapshot:
    """What the last poll brought. `asked` is when it was begun (monotonic); `trouble` says why there is no progress;
    `away`: it may pass.

    `admitted` is when Airflow was last seen with the admission behind it (monotonic; 0: not yet), `refused` that it
    failed, `ended` that the run is over there.
    """

    requested_at: float
    progress: m.Progress | None = None
    trouble: str = ""
    away: bool = False
    admitted: float = 0.0
    refused: bool = False
    ended: bool = False


@dataclass(frozen=True)
class _Known:
    """What Airflow said last, as in Snapshot."""

    admitted: float = 0.0
    refused: bool = False
    ended: bool = False


class ProgressPoller:
    """The poll of one run. Use `follow`."""

    def __init__(self, feeds: ProgressPollers, run: str) -> None:
        self.feeds, self.run = feeds, run
        self.place: InAirflow | None = None
        self.followers = 0
        self._snapshot: Snapshot | None = None
        self._news = asyncio.Event()
        self._hurry = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._known = _Known()
        self._look_at = 0.0

    async def newer(self, than: float) -> Snapshot:
        """The first snapshot that was asked for after `than` (monotonic); pass the last one's `asked` to get the
        next.
        """
        while self._snapshot is None or self._snapshot.requested_at <= than:
            await self._news.wait()
        return self._snapshot

    def latest(self, than: float) -> Snapshot | None:
        """The last snapshot where it was asked for after `than` (monotonic), without waiting."""
        return self._snapshot if self._snapshot is not None and self._snapshot.requested_at > than else None

    def enter(self, place: InAirflow | None) -> None:
        self.followers += 1
        if place is not None:
            self.place = place
            self._look_at = 0.0  # who comes anew may come before the run is admitted again
        self._hurry.set()
        if self._task is None:
            self._task = asyncio.create_task(self._poll(), name=f"poll of {self.run}")

    async def leave(self) -> bool:
        """Whether that was the last."""
        self.followers -= 1
        if self.followers or self._task is None:
            return False
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        return True

    async def _poll(self) -> None:
        while True:
            await self.feeds.turn()
            self._hurry.clear()
            if self.place is not None and time.monotonic() >= self._look_at:
                self._look_at = time.monotonic() + AIRFLOW_EVERY
                looking = time.monotonic()
                self._known = await _look(self.place, looking)
                if not self._known.admitted and not self._known.refused:
                    self._look_at = 0.0
            self._tell(
                replace(await self._ask(time.monotonic()), **asdict(self._known))
            )  # asked after Airflow: of the attempt that is admitted there
            await asyncio.sleep(AT_ONCE)
            with suppress(TimeoutError):
                await asyncio.wait_for(self._hurry.wait(), FASTEST - AT_ONCE)

    async def _ask(self, requested_at: float) -> Snapshot:
        try:
            client = await self.feeds.client()
            return Snapshot(requested_at, await client.progress(self.run))
        except ProblemError as error:
            return Snapshot(requested_at, trouble=short(error), away=is_away(error))
        # A poll that ended would leave everybody waiting: a missing connection or setting may be mended meanwhile.
        except Exception as error:
            return Snapshot(requested_at, trouble=short(error), away=True)

    def _tell(self, snapshot: Snapshot) -> None:
        self._snapshot = snapshot
        news, self._news = self._news, asyncio.Event()
        news.set()


class ProgressPollers:
    """All polls of one event loop over one connection; one HTTP client for them together."""

    def __init__(self, conn_id: str | None) -> None:
        self.conn_id = conn_id
        self._feeds: dict[str, ProgressPoller] = {}
        self._client: AsyncBrokerClient | None = None
        self._making = asyncio.Lock()
        self._pace = 1 / settings().polls_per_second
        self._next_turn = 0.0

    async def turn(self) -> None:
        """Waits until this poll may go out: all together keep to GDI_POLLS_PER_SECOND, first come, first served."""
        now = time.monotonic()
        at = max(now, self._next_turn)
        self._next_turn = at + self._pace
        await asyncio.sleep(at - now)

    async def client(self) -> AsyncBrokerClient:
        async with self._making:
            if self._client is None:
                self._client = await TokenBrokerHook(self.conn_id).aget_conn()
            return self._client

    @asynccontextmanager
    async def follow(self, run: str, place: InAirflow | None) -> AsyncIterator[ProgressPoller]:
        feed = self._feeds.setdefault(run, ProgressPoller(self, run))
        feed.enter(place)
        try:
            yield feed
        finally:
            if feed.followers == 1:
                self._feeds.pop(run, None)  # before the wait in leave(): who comes meanwhile starts anew
            await feed.leave()
            if not self._feeds and self._client is not None:
                client, self._client = self._client, None
                await client.aclose()


_loops: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[str | None, ProgressPollers]] = WeakKeyDictionary()


@asynccontextmanager
async def follow(
    run: str, *, conn_id: str | None = None, place: InAirflow | None = None
) -> AsyncIterator[ProgressPoller]:
    """The feed of a broker's run, shared with all who follow it in this event loop."""
    feeds = _loops.setdefault(asyncio.get_running_loop(), {}).setdefault(conn_id, ProgressPollers(conn_id))
    async with feeds.follow(run, place) as feed:
        yield feed


async def _look(place: InAirflow, now: float) -> _Known:
    """What Airflow says; outside a triggerer, or where it does not answer, that the run is admitted and goes on."""
    from airflow.sdk.execution_time.task_runner import RuntimeTaskInstance

    def ask() -> dict[str, Any]:
        found = RuntimeTaskInstance.get_task_states(
            dag_id=place.dag_id, task_ids=[place.admit, place.close], run_ids=[place.dag_run_id]
        )
        return dict(found.get(place.dag_run_id, {}))

    try:
        states = await asyncio.to_thread(ask)
    except Exception:  # this is the second source: without it the first goes on
        return _Known(admitted=now)
    admitted, over = str(states.get(place.admit)), str(states.get(place.close)) in ENDED
    return _Known(
        admitted=now if admitted == "success" else 0.0, refused=admitted in ENDED and admitted != "success", ended=over
    )
