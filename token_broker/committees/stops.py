"""Stops by access committees. A run, or all that a person does with a committee's datasets, gets no token from the
moment on at which the row is here; what a stop is of is asked anew each time.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Iterable, Sequence

import sqlalchemy as sa
from sqlalchemy import RowMapping
from sqlalchemy.ext.asyncio import AsyncConnection

from gdi.contracts.committees import CommitteeStop, Stop, StoppedRun
from gdi.kit.problem import ProblemError
from token_broker.audit import Audit
from token_broker.db.store import BrokerDatabase, audit, runs, stops
from token_broker.enrolment import Committee, EnrolmentFile

MOST = 1000  # open runs that one stop ends, and stops that one list shows

OnStop = Callable[[AsyncConnection, CommitteeStop, Callable[[str], bool]], Awaitable[None]]


async def _nothing_else(c: AsyncConnection, stop: CommitteeStop, covers: Callable[[str], bool]) -> None:
    """Where no run goes on after its close."""


class Stops:
    """`on_stop(connection, stop, covers)` is called in the transaction that makes a stop of what a committee covers."""

    def __init__(self, store: BrokerDatabase, enrolment: EnrolmentFile, audit: Audit) -> None:
        self._store, self._enrolment, self._audit = store, enrolment, audit
        self.on_stop: OnStop = _nothing_else

    # --- asked at each admission and each token --------------------------------------------------

    async def of_person(self, people: Iterable[str], datasets: Iterable[str]) -> dict[str, Stop]:
        """The stop by which this person may not use a dataset, by dataset; `people`: all of their identities. A
        committee that is not enrolled any more stops nobody.
        """
        query = sa.select(stops).where(stops.c.person.in_(sorted(people)), stops.c.lifted_at.is_(None))
        async with self._store.read() as c:
            rows = list((await c.execute(query)).mappings())
        found: dict[str, Stop] = {}
        for row in rows:
            committee = self._enrolment.current.committee(row["committee"])
            found |= {d: as_stop(row) for d in datasets if committee is not None and committee.covers(d)}
        return found

    async def check(self, run: str) -> None:
        """ProblemError 403 `stopped-by-committee` where this run, or its person for one of its datasets, is stopped."""
        async with self._store.read() as c:
            row = (await c.execute(sa.select(stops).where(stops.c.run == run).limit(1))).mappings().first()
            mine = sa.select(runs.c.owner, runs.c.datasets).where(runs.c.id == run)
            known = (await c.execute(mine)).first()
            whose = audit.c.visa["sub"].as_string()  # of visas that are a linked identity's
            linked = sa.select(whose).where(audit.c.run == run, audit.c.action == "run.admit", whose.is_not(None))
            others = (await c.execute(linked.distinct())).scalars().all() if row is None else []
        if row is not None:
            raise stopped("this run", as_stop(row))
        if known is not None:
            for dataset, stop in (await self.of_person({known.owner, *others}, known.datasets)).items():
                raise stopped(f"your use of {dataset}", stop)

    # --- made, lifted, listed by members ---------------------------------------------------------

    async def make(self, committee: Committee, member: str, request: CommitteeStop) -> tuple[Stop, list[StoppedRun]]:
        """The stop (the one that is there, where it is in force already) and the open runs that it ends. 404 for a run
        that uses none of the committee's datasets.
        """
        ended = await self._ended(committee, request)
        known = sa.select(stops).where(
            stops.c.committee == committee.name,
            stops.c.run.is_not_distinct_from(request.run),
            stops.c.person.is_not_distinct_from(request.person),
            stops.c.lifted_at.is_(None),
        )
        values = {
            "committee": committee.name,
            "run": request.run,
            "person": request.person,
            "reason": request.reason,
            "by": member,
            "made_at": time.time(),
        }
        async with self._store.write() as c:
            row = (await c.execute(known)).mappings().first()
            fresh = row is None
            if row is None:
                await c.execute(stops.insert().values(**values))
                row = (await c.execute(known)).mappings().one()
            await self.on_stop(c, request, committee.covers)
        stop = as_stop(row)
        if fresh:
            what = request.run or f"person {request.person}"
            reason = f"{committee.name} stopped {what}: {request.reason}"
            await self._audit.record(f"user:{member}", "committee.stop", run=request.run, reason=reason)
            for owner in {run.user for run in ended} | ({request.person} if request.person else set()):
                await self._audit.record(
                    f"committee:{committee.name}", "stopped", owner=owner, run=request.run, reason=request.reason
                )
        return stop, ended

    async def lift(self, committees: Sequence[Committee], member: str, number: int) -> Stop:
        """A person's stop ends. 404 where there is none of these committees; 409 for a run's."""
        here = sa.and_(stops.c.id == number, stops.c.committee.in_([one.name for one in committees]))
        async with self._store.write() as c:
            row = (await c.execute(sa.select(stops).where(here))).mappings().first()
            if row is None:
                raise ProblemError(404, "stop-unknown", f"There is no stop {number}.", action="List the stops.")
            if row["person"] is None:
                raise ProblemError(
                    409, "stop-stays", "A run's stop stays.", action="The person starts a new run where they may."
                )
            fresh = row["lifted_at"] is None
            if fresh:
                values = {"lifted_at": time.time(), "lifted_by": member}
                await c.execute(stops.update().where(here).values(**values))
                row = (await c.execute(sa.select(stops).where(here))).mappings().one()
        if fresh:
            reason = f"{row['committee']} lifted the stop of {row['person']}"
            await self._audit.record(f"user:{member}", "committee.lift", reason=reason)
        return as_stop(row)

    async def all(self, committees: Sequence[Committee]) -> list[Stop]:
        query = sa.select(stops).where(stops.c.committee.in_([one.name for one in committees]))
        async with self._store.read() as c:
            rows = (await c.execute(query.order_by(stops.c.id.desc()).limit(MOST))).mappings()
            return [as_stop(row) for row in rows]

    async def _ended(self, committee: Committee, request: CommitteeStop) -> list[StoppedRun]:
        # A run on a linked identity's visa gets no token either (`check`).
        linked = sa.select(audit.c.run).where(
            audit.c.run.is_not(None), audit.c.action == "run.admit", audit.c.visa["sub"].as_string() == request.person
        )
        theirs = sa.or_(runs.c.owner == request.person, runs.c.id.in_(linked))
        chosen = runs.c.id == request.run if request.run else theirs
        query = sa.select(runs).where(chosen)
        if request.person:
            query = query.where(runs.c.state == "open").order_by(runs.c.opened_at.desc()).limit(MOST)
        async with self._store.read() as c:
            rows = [r for r in (await c.execute(query)).mappings() if any(map(committee.covers, r["datasets"]))]
        if request.run and not rows:
            raise ProblemError(
                404,
                "run-unknown",
                f"There is no run {request.run} that used a dataset of {committee.name}.",
                action="Check the run's id.",
            )
        return [
            StoppedRun(id=r["id"], dag_id=r["dag_id"], dag_run_id=r["dag_run_id"], user=r["owner"])
            for r in rows
            if r["state"] == "open"
        ]


def as_stop(row: RowMapping) -> Stop:
    return Stop(
        id=row["id"],
        committee=row["committee"],
        run=row["run"],
        person=row["person"],
        reason=row["reason"],
        by=row["by"],
        made_at=row["made_at"],
        lifted_by=row["lifted_by"] or "",
        lifted_at=row["lifted_at"],
    )


def stopped(what: str, stop: Stop) -> ProblemError:
    """Who stopped it is the committee, not one of its members."""
    return ProblemError(
        403,
        "stopped-by-committee",
        f"The access committee {stop.committee} has stopped {what}: {stop.reason}",
        action="Ask that committee.",
        committee=stop.committee,
    )
