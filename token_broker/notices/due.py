"""What is due to be told to a person, found in the broker's own tables."""

from __future__ import annotations

import time
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from gdi.contracts.notices import NOTICE_KINDS, NoticeKind
from gdi.kit.canonical import sha256_hex
from gdi.kit.database import insert
from token_broker.db.store import audit, grants, notices, runs, schedules

DAY = 86400.0
AHEAD = 7 * DAY  # how long before its end a standing consent is told of
BATCH = 50


async def due(
    c: AsyncConnection, owner: str, kinds: Any = NOTICE_KINDS, *, since: float
) -> list[tuple[NoticeKind, str, str]]:
    """(kind, run or grant, workflow) of all of these kinds. Runs and starts: those after `since`, two days ago at most;
    consents and schedules as they are now.
    """
    now = time.time()
    ended = sa.select(runs.c.outcome, runs.c.id, runs.c.workflow).where(
        runs.c.owner == owner, runs.c.state == "closed", runs.c.closed_at > since, runs.c.closed_at > now - 2 * DAY
    )
    of_outcome: dict[str, NoticeKind] = {"success": "run-succeeded", "failed": "run-failed"}
    found = [(of_outcome[o], run, w) for o, run, w in await c.execute(ended.limit(BATCH)) if o in of_outcome]
    refused = sa.select(audit.c.run).where(
        audit.c.owner == owner,
        audit.c.action == "run.admit",
        audit.c.allowed.is_(False),
        audit.c.time > max(since, now - 2 * DAY),
        audit.c.run.is_not(None),
    )
    found += [("start-refused", run, "") for run in (await c.execute(refused.distinct().limit(BATCH))).scalars()]
    mine = (grants.c.owner == owner, grants.c.mode == "standing")
    soon = sa.select(grants.c.id).where(
        *mine, grants.c.state == "active", grants.c.expires_at.between(now, now + AHEAD)
    )
    long_ago = grants.c.created_at < now - DAY  # who gave it for some days knows when it ends
    found += [("consent-ends", g, "") for g in (await c.execute(soon.where(long_ago).limit(BATCH))).scalars()]
    dead = sa.select(grants.c.id).where(*mine, grants.c.state == "dead")
    found += [("consent-ended", g, "") for g in (await c.execute(dead.limit(BATCH))).scalars()]
    stopped = (
        sa.select(schedules.c.grant_id, schedules.c.workflow)
        .join(grants, grants.c.id == schedules.c.grant_id)
        .where(grants.c.owner == owner, grants.c.state == "active", schedules.c.state == "stopped")
    )
    found += [("schedule-stopped", g, w) for g, w in await c.execute(stopped.limit(BATCH))]
    return [one for one in found if one[0] in kinds]


def _id(owner: str, kind: str, subject: str, way: str) -> str:
    return f"n-{sha256_hex('|'.join((owner, kind, subject, way)).encode())[:32]}"


async def is_made(c: AsyncConnection, owner: str, kind: str, subject: str, way: str) -> bool:
    query = sa.select(notices.c.id).where(notices.c.id == _id(owner, kind, subject, way))
    return (await c.execute(query)).first() is not None


async def make(
    c: AsyncConnection, owner: str, kind: str, subject: str, workflow: str, way: str, state: str = "waiting"
) -> int:
    """Its row, once; how many were made."""
    now = time.time()
    values = {
        "id": _id(owner, kind, subject, way),
        "owner": owner,
        "kind": kind,
        "subject": subject,
        "workflow": workflow,
        "way": way,
        "state": state,
        "tries": 0,
        "made_at": now,
        "next_at": now,
    }
    done = await c.execute(insert(c, notices).values(**values).on_conflict_do_nothing(index_elements=["id"]))
    return int(done.rowcount > 0)
