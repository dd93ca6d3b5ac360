"""What is due to be told to a person, found in the broker's own tables."""

from __future__ import annotations

import time
from collections.abc import Collection
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from gdi.contracts.gateway_api import WAITING
from gdi.contracts.notices import NOTICE_KINDS, NoticeKind
from gdi.kit.canonical import sha256_hex
from gdi.kit.database import insert
from token_broker.db.store import audit, grants, notice_choices, notices, orders, runs, schedules

DAY = 86400.0
AHEAD = 7 * DAY  # how long before its end a standing consent is told of
BATCH = 50


async def due(
    c: AsyncConnection, owner: str, kinds: Collection[NoticeKind] = NOTICE_KINDS, *, since: float
) -> list[tuple[NoticeKind, str, str]]:
    """(kind, run or grant, workflow) of these kinds, of which there is no notice yet; BATCH of each at most. Runs and
    starts: those after `since`, two days ago at most; consents and schedules as they are now.
    """
    questions = [(kind, query.limit(BATCH)) for kind, query in _due(owner, since).items() if kind in kinds]
    return [(kind, subject, workflow) for kind, query in questions for subject, workflow in await c.execute(query)]


def is_due() -> sa.ColumnElement[bool]:
    """Of a row of `notice_choices`: whether there is anything for `due`, of kinds that were not chosen too."""
    questions = _due(notice_choices.c.owner, notice_choices.c.changed_at)
    return sa.or_(*(query.exists() for query in questions.values()))


def _due(owner: Any, since: Any) -> dict[NoticeKind, sa.Select[Any]]:
    """By kind, (run or grant, workflow). `owner` and `since`: values, or columns of an enclosing query."""
    now = time.time()
    nothing = sa.literal("")

    def ended(outcome: str) -> sa.Select[Any]:
        late = (runs.c.closed_at > since, runs.c.closed_at > now - 2 * DAY)
        found = sa.select(runs.c.id, runs.c.workflow).where(runs.c.owner == owner, runs.c.state == "closed", *late)
        return found.where(runs.c.outcome == outcome)

    waits = (
        sa.select(runs.c.id, runs.c.workflow)
        .join(orders, sa.and_(orders.c.run_id == runs.c.id, orders.c.attempt == runs.c.attempt))
        .where(runs.c.owner == owner, runs.c.state == "open", orders.c.kind == "release", orders.c.state == "running")
        .where(orders.c.detail.startswith(WAITING, autoescape=True))
    )
    refused = sa.select(audit.c.run, nothing).where(
        audit.c.owner == owner,
        audit.c.action == "run.admit",
        audit.c.allowed.is_(False),
        audit.c.time > since,
        audit.c.time > now - 2 * DAY,
        audit.c.run.is_not(None),
    )
    standing = sa.select(grants.c.id, nothing).where(grants.c.owner == owner, grants.c.mode == "standing")
    soon = standing.where(grants.c.state == "active", grants.c.expires_at.between(now, now + AHEAD))
    stopped = (
        sa.select(schedules.c.grant_id, schedules.c.workflow)
        .join(grants, grants.c.id == schedules.c.grant_id)
        .where(grants.c.owner == owner, grants.c.state == "active", schedules.c.state == "stopped")
    )
    found: dict[NoticeKind, sa.Select[Any]] = {
        "run-succeeded": ended("success"),
        "run-failed": ended("failed"),
        "run-waits": waits.distinct(),  # at two nodes, or for two releases: it is one word
        "start-refused": refused.distinct(),
        "consent-ends": soon.where(grants.c.created_at < now - DAY),  # who gave it for some days knows when it ends
        "consent-ended": standing.where(grants.c.state == "dead"),
        "schedule-stopped": stopped,
    }
    for kind, query in found.items():
        mine = (notices.c.owner == owner, notices.c.kind == kind, notices.c.subject == query.selected_columns[0])
        found[kind] = query.where(~sa.exists().where(*mine).correlate_except(notices))
    return found


def _id(owner: str, kind: str, subject: str, way: str) -> str:
    return f"n-{sha256_hex('|'.join((owner, kind, subject, way)).encode())[:32]}"


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
