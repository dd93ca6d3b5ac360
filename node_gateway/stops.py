"""Stops by members of the node's access committee: a run, or a person, is served here no more. In the node's own
database, so that a restart forgets none; whoever is stopped is refused at each request.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from gdi.kit.problem import ProblemError
from node_gateway.audit import Audit, AuditEvent
from node_gateway.db import store as db

FRESH = 1.0  # seconds for which what another gateway of the same database stopped may be unknown here
MOST = 1000


@dataclass(frozen=True)
class NodeStop:
    """Times are seconds since the epoch. A person's stop can be lifted; a run's stays."""

    id: int
    run: str | None
    person: str | None
    reason: str
    by: str
    made_at: float
    lifted_by: str | None
    lifted_at: float | None


class NodeStops:
    def __init__(self, database: db.GatewayDatabase, audit: Audit) -> None:
        self._db, self._audit = database, audit
        self._read_at = float("-inf")
        self._runs: dict[str, str] = {}
        self._people: dict[str, str] = {}

    async def check(self, run: str, user: str) -> None:
        """ProblemError 403 `stopped-by-committee`."""
        await self._refresh()
        for what, reason in (("this run", self._runs.get(run)), ("all that this user runs", self._people.get(user))):
            if reason is not None:
                raise ProblemError(
                    403,
                    "stopped-by-committee",
                    f"The access committee of this node has stopped {what} here: {reason}",
                    action="Ask that committee.",
                )

    async def reason(self, run: str, people: Iterable[str]) -> str | None:
        """Why this run or this person, by one of their identities, is stopped; None where they are not."""
        c = db.stops.c
        stopped = sa.or_(c.run == run, c.person.in_(sorted(people)))
        query = sa.select(c.reason).where(c.lifted_at.is_(None), stopped).limit(1)
        async with self._db.read() as connection:
            return (await connection.execute(query)).scalar_one_or_none()

    async def make(self, member: str, *, run: str | None = None, person: str | None = None, reason: str) -> NodeStop:
        """The stop; the one that is there, where it is in force already."""
        c = db.stops.c
        same = sa.select(db.stops).where(
            c.run.is_not_distinct_from(run), c.person.is_not_distinct_from(person), c.lifted_at.is_(None)
        )
        values = {"run": run, "person": person, "reason": reason, "by": member, "made_at": time.time()}
        async with self._db.write() as connection:
            row = (await connection.execute(same)).mappings().first()
            fresh = row is None
            if row is None:
                await connection.execute(db.stops.insert().values(**values))
                row = (await connection.execute(same)).mappings().one()
        self._read_at = float("-inf")
        if fresh:
            what = f"person {person}" if person else ""
            await self._audit.record(
                AuditEvent("committee-stop", True, f"committee {member}", run or "", what=what, reason=reason)
            )
        return NodeStop(**row)

    async def lift(self, member: str, number: int) -> NodeStop:
        """404 where there is no such stop; 409 for a run's."""
        here = db.stops.c.id == number
        async with self._db.write() as connection:
            row = (await connection.execute(sa.select(db.stops).where(here))).mappings().first()
            if row is None:
                raise ProblemError(404, "stop-unknown", f"There is no stop {number}.", action="List the stops.")
            if row["person"] is None:
                raise ProblemError(409, "stop-stays", "A run's stop stays.", action="A new run may be started.")
            fresh = row["lifted_at"] is None
            if fresh:
                values = {"lifted_by": member, "lifted_at": time.time()}
                await connection.execute(db.stops.update().where(here).values(**values))
                row = (await connection.execute(sa.select(db.stops).where(here))).mappings().one()
        self._read_at = float("-inf")
        if fresh:
            what = f"person {row['person']}"
            await self._audit.record(AuditEvent("committee-lift", True, f"committee {member}", what=what))
        return NodeStop(**row)

    async def all(self) -> list[NodeStop]:
        """The latest first, at most `MOST`."""
        query = sa.select(db.stops).order_by(db.stops.c.id.desc()).limit(MOST)
        async with self._db.read() as connection:
            return [NodeStop(**row) for row in (await connection.execute(query)).mappings()]

    async def open_runs(self, *, run: str | None = None, person: str | None = None) -> dict[str, tuple[str, int]]:
        """(user, highest attempt) by run, of those with a task that has not ended."""
        t = db.tasks.c
        query = sa.select(t.run, t.user, sa.func.max(t.attempt)).where(t.ended.is_(None), t.phase != "refused")
        query = query.where(t.run == run if run else t.user == person).group_by(t.run, t.user).limit(MOST)
        async with self._db.read() as connection:
            return {row[0]: (row[1], row[2]) for row in await connection.execute(query)}

    async def _refresh(self) -> None:
        if time.monotonic() - self._read_at < FRESH:
            return
        query: sa.Select[Any] = sa.select(db.stops).where(db.stops.c.lifted_at.is_(None))
        async with self._db.read() as connection:
            rows = list((await connection.execute(query)).mappings())
        self._runs = {row["run"]: row["reason"] for row in rows if row["run"]}
        self._people = {row["person"]: row["reason"] for row in rows if row["person"]}
        self._read_at = time.monotonic()
