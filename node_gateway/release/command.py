"""`node-gateway ledger list | retract`: what left, and which of it is wrong."""

from __future__ import annotations

import time
from datetime import UTC, datetime

import sqlalchemy as sa

from gdi.contracts.ids import dataset_of_name
from gdi.kit.database import insert
from node_gateway.audit import Audit, AuditEvent
from node_gateway.db import store as db
from node_gateway.db.store import GatewayDatabase
from node_gateway.redaction import redact
from node_gateway.review.cases import AT_NODE

MAX_REASON = 500


class RetractionError(Exception):
    """The release cannot be retracted: a sentence."""


async def lines(database: GatewayDatabase, dataset: str | None = None) -> str:
    """All releases, the oldest first, a line each; of one dataset where it is named."""
    found = []
    c = db.releases.c
    query = sa.select(db.releases, db.retractions.c.reason).outerjoin(
        db.retractions, db.retractions.c.release == c.number
    )
    async with database.read() as connection:
        async for row in await connection.stream(query.order_by(c.number)):
            cohort = row.answer.get(AT_NODE, {}).get("cohort", [])
            if dataset is not None and not any(_dataset(name) == dataset for name in cohort):
                continue
            day = datetime.fromtimestamp(row.time, UTC).date()
            state = f"retracted: {row.reason}" if row.reason is not None else row.state
            user = row.answer.get(AT_NODE, {}).get("user", "")
            found.append(f"{row.number}\t{day}\t{state}\t{row.run}\t{row.name}\t{', '.join(cohort)}\t{user}")
    return "\n".join(found) or "Nothing left this node."


def _dataset(cohort: str) -> str:
    name = cohort.partition("/")[0].partition("@")[0]
    return dataset_of_name(name) or name


async def retract(database: GatewayDatabase, release: int, reason: str, *, dry_run: bool) -> str:
    """Marks the release for its readers. RetractionError where there is none such, or no reason."""
    why = redact(" ".join(reason.split()), MAX_REASON)
    if not why:
        raise RetractionError("give a reason: readers are told it")
    async with database.write() as connection:
        row = (await connection.execute(sa.select(db.releases).where(db.releases.c.number == release))).first()
        if row is None or row.state != "published":
            raise RetractionError(f"no release {release} left this node: `node-gateway ledger list` has them")
        if dry_run:
            return f"Release {release} ({row.name} of run {row.run}) would be marked as wrong, its cells stay."
        values = {"release": release, "reason": why, "time": time.time()}
        await connection.execute(insert(connection, db.retractions).values(**values).on_conflict_do_nothing())
    await database.make_durable()
    what = f"{row.name}, release {release}"
    await Audit(database).record(AuditEvent("release-retracted", True, "operator", row.run, what=what, reason=why))
    return f"Release {release} ({row.name} of run {row.run}) is marked as wrong: its readers get the reason."
