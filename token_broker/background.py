"""What the broker does by itself: refreshes grants before their refresh tokens end, tells the provider of revocations,
ends what ran out.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Awaitable, Callable

from gdi.kit.problem import ProblemError
from gdi.kit.used_ids import UsedIds
from token_broker.catalogues.catalogues import DataCatalogues
from token_broker.grants.grants import Grants
from token_broker.grants.schedules import Schedules
from token_broker.grants.tickets import Tickets
from token_broker.health import Health
from token_broker.notices.outbox import Outbox
from token_broker.orders.orders import Orders
from token_broker.orders.preflights import Preflights
from token_broker.orders.release_store import ReleaseStore
from token_broker.orders.rounds import Rounds
from token_broker.tokens.token_refresher import TokenRefresher

log = logging.getLogger(__name__)
TICK, MINUTE, HOUR = 0.5, 60.0, 3600.0  # seconds
BATCH = 50  # refreshes at once


class Background:
    """A loop for each duty, so that none waits for another: a provider that hangs on revocations must not let other
    grants die.

    Safe to run in every replica: each refresh is guarded by the grant's lease, each revocation may be repeated.
    """

    def __init__(
        self,
        grants: Grants,
        refresher: TokenRefresher,
        tickets: Tickets,
        schedules: Schedules,
        used_ids: UsedIds,
        health: Health,
        orders: Orders,
        rounds: Rounds,
        preflights: Preflights,
        releases: ReleaseStore,
        measure: Callable[[], Awaitable[object]],
        outbox: Outbox,
        catalogues: DataCatalogues,
    ) -> None:
        """`measure`: brings the nodes' figures up to date."""
        self._measure, self._outbox, self._catalogues = measure, outbox, catalogues
        self._orders, self._preflights, self._releases = orders, preflights, releases
        self._grants, self._keeper, self._tickets, self._schedules = grants, refresher, tickets, schedules
        self._used_ids, self._health, self._rounds = used_ids, health, rounds
        self._loops: list[asyncio.Task[None]] = []
        self._refreshing: dict[str, asyncio.Task[None]] = {}

    def start(self) -> None:
        duties: list[tuple[Callable[[], Awaitable[object]], float]] = [
            (self._refresh, TICK),
            (self._grants.expire, 4 * TICK),
            (self._grants.revoke_upstream, 2 * TICK),
            (self._tickets.forget_old, HOUR),
            (self._grants.forget_old, HOUR),
            (self._schedules.forget_old, HOUR),
            (self._used_ids.forget_old, MINUTE),
            (self._health.look, 2 * TICK),
            (self._orders.sweep, 2 * TICK),
            (self._rounds.forget_old, HOUR),
            (self._preflights.forget_old, HOUR),
            (self._measure, MINUTE / 4),
            (self._releases.sweep, HOUR),
            (self._outbox.collect, 20 * TICK),
            (self._outbox.send, 4 * TICK),
            (self._outbox.forget_old, HOUR),
            (self._catalogues.refresh, 4 * TICK),
        ]
        self._loops = [asyncio.create_task(self._loop(duty, every)) for duty, every in duties]

    async def stop(self) -> None:
        tasks = [*self._loops, *self._refreshing.values()]
        for task in tasks:
            task.cancel()  # a refresh under way goes on by itself: see TokenRefresher.drain
        if tasks:
            await asyncio.wait(tasks, timeout=5)

    async def _loop(self, duty: Callable[[], Awaitable[object]], every: float) -> None:
        while True:
            try:
                await duty()
            except Exception as error:  # a loop that dies in silence would let every grant die
                log.error("background work failed, trying again: %s: %s", type(error).__name__, str(error)[:200])
            await asyncio.sleep(every * (0.5 + secrets.randbelow(1000) / 1000))

    async def _refresh(self) -> None:
        """Starts what is due and does not wait for it: one grant whose lease is held elsewhere must not hold up the
        others.
        """
        for grant in await self._grants.due_for_refresh(BATCH + len(self._refreshing)):
            if len(self._refreshing) >= BATCH:
                return
            if grant not in self._refreshing:
                self._refreshing[grant] = asyncio.create_task(self._renew(grant))

    async def _renew(self, grant: str) -> None:
        try:
            stored = await self._keeper.renew(grant)
            await self._grants.on_refresh(grant, stored)  # also where another replica did it, or could not note it
        except ProblemError as error:
            if error.slug != "grant-inactive":
                log.warning("grant %s could not be refreshed: %s", grant, error.problem.detail)
                await self._grants.postpone(grant, 2 + secrets.randbelow(3000) / 1000)
        except Exception as error:
            log.error("grant %s could not be refreshed: %s", grant, type(error).__name__)
        finally:
            self._refreshing.pop(grant, None)
