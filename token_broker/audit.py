"""The audit: who did what, when, to which run, grant and dataset, under which visa, and whether it was allowed. Written
once, never changed.
"""

from __future__ import annotations

import time
from typing import Any

import sqlalchemy as sa

from gdi.contracts.audit import AuditEntry, AuditPage
from token_broker.db.store import BrokerDatabase, audit

LIMIT = 1000


class Audit:
    def __init__(self, store: BrokerDatabase) -> None:
        self._store = store

    async def record(
        self,
        actor: str,
        action: str,
        *,
        allowed: bool = True,
        owner: str | None = None,
        run: str | None = None,
        grant: str | None = None,
        dataset: str | None = None,
        node: str | None = None,
        reason: str = "",
        visa: dict[str, Any] | None = None,
    ) -> None:
        """`owner` is the user whom it concerns and who may read it."""
        values = {
            "time": time.time(),
            "actor": actor[:255],
            "action": action,
            "owner": owner,
            "run": run,
            "grant_id": grant,
            "dataset": dataset,
            "node": node,
            "allowed": allowed,
            "reason": reason[:2000],
            "visa": visa,
        }
        async with self._store.write() as c:
            await c.execute(audit.insert().values(**values))

    async def page(self, *, run: str | None, owner: str | None, after: int = 0) -> AuditPage:
        """Entries in order, of one run where given, of one user where given."""
        query = sa.select(audit).where(audit.c.number > after).order_by(audit.c.number).limit(LIMIT)
        if run is not None:
            query = query.where(audit.c.run == run)
        if owner is not None:
            query = query.where(audit.c.owner == owner)
        async with self._store.read() as c:
            rows = (await c.execute(query)).mappings().all()
        return AuditPage(
            entries=[
                AuditEntry(
                    number=r["number"],
                    time=r["time"],
                    actor=r["actor"],
                    action=r["action"],
                    run=r["run"],
                    grant=r["grant_id"],
                    dataset=r["dataset"],
                    node=r["node"],
                    allowed=r["allowed"],
                    reason=r["reason"],
                    visa=r["visa"],
                )
                for r in rows
            ]
        )
