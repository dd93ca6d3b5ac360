"""How the last runs of a schedule ended: three failures in a row stop it."""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from token_broker.db.store import runs, starts

ENOUGH = 3


async def failures(c: AsyncConnection, grant: str) -> list[tuple[float, str]]:
    """(when it was due, what is known of why) of the latest runs of the grant's schedule that failed one after the
    other, the newest first; `ENOUGH` of them at most. What its user stopped counts neither way.
    """
    query = (
        sa.select(starts.c.due, runs.c.outcome, runs.c.failing)
        .join(runs, sa.and_(runs.c.dag_run_id == starts.c.dag_run_id, runs.c.grant_id == starts.c.grant_id))
        .where(starts.c.grant_id == grant, runs.c.state == "closed", runs.c.outcome.in_(("success", "failed")))
        .order_by(starts.c.due.desc())
        .limit(ENOUGH)
    )
    found: list[tuple[float, str]] = []
    for due, outcome, failing in await c.execute(query):
        if outcome == "success":
            break
        found.append((due, f"{failing['node']}: {failing['reason']}" if failing else ""))
    return found
