"""What the broker does by itself: refreshes grants before their refresh tokens end, tells the provider of revocations, ends what ran out."""

from __future__ import annotations

import asyncio
import logging
import secrets
import time

from gdi_common.problem import ProblemError
from token_broker.grants import Grants
from token_broker.keeper import Keeper
from token_broker.tickets import Tickets

log = logging.getLogger(__name__)
TICK = 1.0
BATCH = 50
AT_ONCE = 8


class Background:
    """One task; safe to run in every replica: each refresh is guarded by the grant's lease, each revocation may be repeated."""

    def __init__(self, grants: Grants, keeper: Keeper, tickets: Tickets) -> None:
        self._grants, self._keeper, self._tickets = grants, keeper, tickets
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = asyncio.create_task(self._loop())

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task], timeout=5)

    async def _loop(self) -> None:
        next_cleaning = 0.0
        while True:
            for what in (self._refresh, self._grants.expire, self._grants.revoke_upstream):
                try:
                    await what()
                except Exception as error:  # a loop that dies in silence would let every grant die
                    log.error("background work failed, trying again: %s: %s", type(error).__name__, str(error)[:200])
            if time.monotonic() > next_cleaning:
                next_cleaning = time.monotonic() + 3600
                try:
                    await self._tickets.forget_old()
                except Exception as error:
                    log.error("old tickets could not be removed: %s", type(error).__name__)
            await asyncio.sleep(TICK * (0.5 + secrets.randbelow(1000) / 1000))

    async def _refresh(self) -> None:
        slots = asyncio.Semaphore(AT_ONCE)

        async def one(grant: str) -> None:
            async with slots:
                try:
                    await self._keeper.renew(grant)
                except ProblemError as error:
                    if error.slug != "grant-inactive":
                        log.warning("grant %s could not be refreshed: %s", grant, error.problem.detail)
                        await self._grants.postpone(grant, 2 + secrets.randbelow(3000) / 1000)

        await asyncio.gather(*(one(g) for g in await self._grants.due_for_refresh(BATCH)))
