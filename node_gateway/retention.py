"""Empties workspaces of runs that ended longer ago than the node's policy keeps them. The node decides by itself; the
coordinator cannot ask for it.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from dataclasses import dataclass

import httpx
import sqlalchemy as sa

from gdi.broker_client.client import AsyncBrokerClient
from gdi.kit.database import insert
from gdi.kit.problem import ProblemError
from gdi.kit.used_ids import UsedIds
from node_gateway.audit import Audit, AuditEvent
from node_gateway.db import store as db
from node_gateway.db.locks import DatabaseLocks
from node_gateway.policy import PolicyFile
from node_gateway.review.service import Reviews
from node_gateway.workspace.bucket import Bucket

log = logging.getLogger(__name__)
EVERY = 3600.0
DAY = 86400.0


@dataclass
class Retention:
    """`retention_days` of the policy; without it nothing is removed. A run is emptied where the broker says that it is
    closed, and was, for that long.

    Idempotent: it may die in the middle, and two at once remove the same files. A run that is opened again afterwards
    computes anew what is missing.
    """

    database: db.GatewayDatabase
    locks: DatabaseLocks
    policy: PolicyFile
    workspace: Bucket
    broker: AsyncBrokerClient
    audit: Audit
    reviews: Reviews

    async def for_ever(self) -> None:
        """Each hour, with jitter; what fails is tried again the next time."""
        while True:
            await asyncio.sleep(EVERY * random.uniform(0.5, 1.5))  # noqa: S311
            try:
                await UsedIds(self.database, db.used_ids).forget_old()
                await self.once()
                await self.reviews.expire()
            except Exception as error:  # a loop that dies in silence would keep data for ever
                log.error(
                    "workspaces could not be emptied, trying again later: %s: %s",
                    type(error).__name__,
                    str(error)[:200],
                )

    async def once(self) -> dict[str, int]:
        """{run: files removed} of the runs that were emptied now."""
        days = self.policy.current().retention_days
        if days is None:
            return {}
        async with self.locks.alone("retention"):  # who comes second finds nothing left
            return await self._all(days)

    async def _all(self, days: float) -> dict[str, int]:
        emptied: dict[str, int] = {}
        for run, attempt in await self._candidates():
            ended = await self._ended(run)
            if ended is None or time.time() - ended[1] < days * DAY:
                continue
            emptied[run] = await self.workspace.delete_below(f"{run}/")
            async with self.database.write() as connection:
                statement = insert(connection, db.emptied).values(run=run, attempt=max(attempt, ended[0]))
                await connection.execute(
                    statement.on_conflict_do_update(
                        index_elements=["run"], set_={"attempt": statement.excluded.attempt}
                    )
                )
            await self.audit.record(
                AuditEvent(
                    "workspace-emptied",
                    True,
                    "gateway",
                    run,
                    ended[0],
                    what=f"{emptied[run]} files, {days:g} days after the run ended",
                )
            )
        return emptied

    async def _candidates(self) -> list[tuple[str, int]]:
        """Runs that were here, and whose last attempt was not emptied."""
        f, e = db.fences.c, db.emptied.c
        query = (
            sa.select(f.run, f.attempt)
            .outerjoin(db.emptied, e.run == f.run)
            .where(sa.or_(e.run.is_(None), e.attempt < f.attempt))
        )
        async with self.database.read() as connection:
            return [(row.run, row.attempt) for row in await connection.execute(query.order_by(f.run))]

    async def _ended(self, run: str) -> tuple[int, float] | None:
        """(attempt, when it was closed), asked of the broker just now; None where it is open, or where that cannot be
        known: then nothing is removed.
        """
        try:
            found = await self.broker.get_run(run)
        except (ProblemError, httpx.HTTPError) as error:
            log.info("run %s is kept: the broker does not tell how it stands (%s)", run, type(error).__name__)
            return None
        return (found.attempt, found.closed_at) if found.state == "closed" and found.closed_at is not None else None
