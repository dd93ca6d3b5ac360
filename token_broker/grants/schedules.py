"""Standing grants that start by themselves: what is due is planned once, handed out with a ticket, and counted as
started when Airflow says so.

A start's Airflow run id is made of grant and due time, and its ticket serves for that id only: whatever crashes in
between, one run comes of it.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from datetime import UTC, datetime
from itertools import islice, takewhile
from typing import Any

import sqlalchemy as sa
from sqlalchemy import RowMapping

from gdi.contracts.grants import DueStart, StartReport, TicketRequest
from gdi.kit.canonical import sha256_hex
from gdi.kit.problem import ProblemError
from token_broker.audit import Audit
from token_broker.db.store import BrokerDatabase, grants, schedules, starts
from token_broker.grants.cron import Cron, CronError
from token_broker.grants.failures import ENOUGH, failures
from token_broker.grants.grants import clean
from token_broker.grants.tickets import Tickets

log = logging.getLogger(__name__)
LEASE = 120.0  # seconds after which a start that was handed out and not reported is handed out again
TICKET_LIFETIME = 86400.0  # a run may wait in Airflow's queue; the ticket serves for that run only
GRACE = 300.0  # a start later than this was missed, where nothing is to be caught up
BATCH, MAX_TRIES = 50, 30
KEEP = 90 * 86400.0


def dag_run_id(grant: str, due: float) -> str:
    """The same for the same start, always; other than every other start's."""
    name = sha256_hex(f"schedule of {grant}".encode())[:20]  # no way leads back to the grant's id
    return f"recurring__{datetime.fromtimestamp(due, UTC):%Y-%m-%dT%H:%M:%SZ}__{name}"


def _day(moment: float) -> str:
    return f"{datetime.fromtimestamp(moment, UTC):%Y-%m-%d %H:%M} UTC"


def _failed(found: list[tuple[float, str]]) -> str:
    """What the schedule says of its latest runs that failed; empty where the latest did not."""
    if not found:
        return ""
    due, why = found[0]
    reason = f": {clean(why)[:500]}" if why else "."
    return f"The run of {_day(due)} failed{reason}{'' if reason.endswith('.') else '.'}"


class Schedules:
    """Safe to ask from many sides at once: each step is a compare-and-set on a row."""

    def __init__(
        self, store: BrokerDatabase, tickets: Tickets, audit: Audit, clock: Callable[[], float] = time.time
    ) -> None:
        self._store, self._tickets, self._audit, self._clock = store, tickets, audit, clock

    async def due(self) -> list[DueStart]:
        """Starts to make now, each with its own ticket; none of them again within LEASE seconds. At most 50."""
        now = self._clock()
        await self._stop_ended(now)
        await self._plan(now)
        return await self._lease(now)

    async def report(self, report: StartReport) -> None:
        """Airflow has the run (`started`), or will never have it (`refused`). Saying it twice changes nothing."""
        s = starts.c
        async with self._store.write() as c:
            this = sa.and_(s.dag_run_id == report.dag_run_id, s.due == report.due)
            grant = (await c.execute(sa.select(s.grant_id).where(this))).scalar_one_or_none()
            if grant is None:
                return
            mine = sa.and_(s.grant_id == grant, s.due == report.due, s.state == "due")
            done = await c.execute(starts.update().where(mine).values(state=report.outcome, detail=report.detail))
            if report.outcome == "started":
                await c.execute(
                    schedules.update()
                    .where(schedules.c.grant_id == grant, schedules.c.state == "active")
                    .values(reason=_failed(await failures(c, grant)))
                )
        if done.rowcount and report.outcome == "refused":
            await self._audit.record("airflow", "schedule.start", allowed=False, grant=grant, reason=report.detail)
            await self.stop(
                grant,
                f"Stopped at the start of {_day(report.due)}. Airflow refused it, as it would every other:"
                f" {clean(report.detail)} Give consent again, with parameters that the workflow takes.",
            )

    async def run_closed(self, grant: str, run_id: str) -> None:
        """A run has ended. Where it was a scheduled one that failed, the grant says so; the third in a row stops the
        schedule.
        """
        async with self._store.write() as c:
            mine = starts.c.grant_id == grant, starts.c.dag_run_id == run_id
            if (await c.execute(sa.select(starts.c.due).where(*mine))).first() is None:
                return  # a start by hand
            found = await failures(c, grant)
            active = schedules.c.grant_id == grant, schedules.c.state == "active"
            await c.execute(schedules.update().where(*active).values(reason=_failed(found)))
        if len(found) >= ENOUGH:
            await self.stop(
                grant,
                f"Stopped after {ENOUGH} runs in a row that failed. {_failed(found)} See what is wrong, then set it up"
                " again.",
            )

    async def run_refused(self, grant: str, run_id: str, error: ProblemError) -> None:
        """A run was refused at admission. Where it was a scheduled one, and access or consent is gone, its schedule
        stops and says why.
        """
        due = await self._due(grant, run_id)
        if due is not None and error.problem.status == 403:
            await self.stop(
                grant,
                f"Stopped at the start of {_day(due)}. {error.problem.detail}",
            )

    async def same_version(self, grant: str, run_id: str, digest: str) -> None:
        """A scheduled start is of the schedule's version, which the first one fixes where the user did not.
        ProblemError 403 `workflow-changed` otherwise, and the schedule stops.
        """
        if await self._due(grant, run_id) is None:
            return  # a start by hand
        mine = schedules.c.grant_id == grant
        async with self._store.write() as c:
            await c.execute(schedules.update().where(mine, schedules.c.digest.is_(None)).values(digest=digest))
            fixed = (await c.execute(sa.select(schedules.c.digest).where(mine))).scalar_one_or_none()
        if fixed in (None, digest):
            return
        error = ProblemError(
            403,
            "workflow-changed",
            f"The schedule is for the version {fixed[:19]}… of its workflow, and this is {digest[:19]}….",
            action="Give consent to the new version (a new grant with a schedule).",
        )
        await self.stop(grant, error.problem.detail)
        raise error

    async def stop(self, grant: str, reason: str) -> None:
        async with self._store.write() as c:
            done = await c.execute(
                schedules.update()
                .where(schedules.c.grant_id == grant, schedules.c.state == "active")
                .values(state="stopped", reason=reason[:2000])
            )
            await c.execute(
                starts.update()
                .where(starts.c.grant_id == grant, starts.c.state == "due")
                .values(state="refused", detail="the schedule stopped")
            )
            owner = (await c.execute(sa.select(grants.c.owner).where(grants.c.id == grant))).scalar_one_or_none()
        if done.rowcount:
            await self._audit.record("broker", "schedule.stop", owner=owner, grant=grant, allowed=False, reason=reason)

    async def forget_old(self) -> None:
        """Starts of long ago, and what is left of grants that are gone."""
        gone = sa.select(grants.c.id)
        async with self._store.write() as c:
            await c.execute(starts.delete().where(starts.c.due < self._clock() - KEEP, starts.c.state != "due"))
            await c.execute(schedules.delete().where(schedules.c.grant_id.not_in(gone)))

    async def _due(self, grant: str, run_id: str) -> float | None:
        """When a scheduled start was due, Unix time; None for a start by hand."""
        query = sa.select(starts.c.due).where(starts.c.grant_id == grant, starts.c.dag_run_id == run_id)
        async with self._store.read() as c:
            return (await c.execute(query)).scalar_one_or_none()

    # --- the steps -------------------------------------------------------------------------------

    async def _stop_ended(self, now: float) -> None:
        """Consent that ended stops its schedule, due or not."""
        query = (
            sa.select(grants.c.id, grants.c.state, grants.c.detail)
            .join(schedules, schedules.c.grant_id == grants.c.id)
            .where(schedules.c.state == "active", sa.or_(grants.c.state != "active", grants.c.expires_at <= now))
            .limit(500)
        )
        async with self._store.read() as c:
            ended = (await c.execute(query)).all()
        for grant, state, detail in ended:
            what = {
                "revoked": "The grant was revoked.",
                "dead": "The grant no longer works at the identity provider.",
            }.get(state, "The grant has expired.")
            await self.stop(grant, f"{what} {detail}".strip())

    async def _plan(self, now: float) -> None:
        """Turns what fell due into starts: the row's next due time moves on in the same transaction."""
        query = (
            sa.select(schedules)
            .where(schedules.c.state == "active", schedules.c.next_due <= now)
            .order_by(schedules.c.next_due)
            .limit(200)
        )
        async with self._store.read() as c:
            rows = (await c.execute(query)).mappings().all()
        for row in rows:
            try:
                due_times, following = self._missed(row, now)
            except CronError as error:  # e.g. a time zone that left the machine's database
                await self.stop(row["grant_id"], f"The schedule cannot be read any more: {error}.")
                continue
            async with self._store.write() as c:
                moved = {"next_due": following, **({"last_due": due_times[-1]} if due_times else {})}
                same = sa.and_(
                    schedules.c.grant_id == row["grant_id"],
                    schedules.c.next_due == row["next_due"],
                    schedules.c.state == "active",
                )
                done = await c.execute(schedules.update().where(same).values(**moved))
                if done.rowcount == 1 and due_times:
                    fresh: dict[str, Any] = {
                        "grant_id": row["grant_id"],
                        "state": "due",
                        "leased_until": 0.0,
                        "tries": 0,
                        "detail": "",
                    }
                    await c.execute(
                        starts.insert(),
                        [{**fresh, "due": t, "dag_run_id": dag_run_id(row["grant_id"], t)} for t in due_times],
                    )

    def _missed(self, row: RowMapping, now: float) -> tuple[list[float], float | None]:
        cron = Cron(row["cron"], row["timezone"])
        first: float = row["next_due"]
        if row["catch_up"] == "all":
            due_times = [first, *takewhile(lambda t: t <= now, islice(cron.after(first), BATCH - 1))]
            return due_times, cron.following(due_times[-1])
        last = max(first, cron.latest(now) or first)
        on_time = row["catch_up"] == "latest" or now - last <= GRACE
        return [last] if on_time else [], cron.following(max(last, now))

    async def _lease(self, now: float) -> list[DueStart]:
        s = starts.c
        query = (
            sa.select(starts, schedules.c.workflow, schedules.c.parameters, grants.c.owner)
            .join(schedules, schedules.c.grant_id == s.grant_id)
            .join(grants, grants.c.id == s.grant_id)
            .where(s.state == "due", s.leased_until <= now)
            .order_by(s.due)
            .limit(BATCH)
        )
        async with self._store.read() as c:
            rows = (await c.execute(query)).mappings().all()
        found = []
        for row in rows:
            mine = sa.and_(
                s.grant_id == row["grant_id"], s.due == row["due"], s.state == "due", s.tries == row["tries"]
            )
            given_up = row["tries"] >= MAX_TRIES
            values = (
                {"state": "failed", "detail": "Airflow could not start it"}
                if given_up
                else {"leased_until": now + LEASE, "tries": row["tries"] + 1}
            )
            async with self._store.write() as c:
                done = await c.execute(starts.update().where(mine).values(**values))
                if done.rowcount == 1 and given_up:
                    await c.execute(
                        schedules.update()
                        .where(schedules.c.grant_id == row["grant_id"], schedules.c.state == "active")
                        .values(reason=f"The start of {_day(row['due'])} was not made: Airflow could not start it.")
                    )
            if done.rowcount == 1 and given_up:
                await self._audit.record(
                    "broker",
                    "schedule.start",
                    allowed=False,
                    owner=row["owner"],
                    grant=row["grant_id"],
                    reason=values["detail"],
                )
            elif done.rowcount == 1:
                found += await self._with_ticket(row)
        return found

    async def _with_ticket(self, row: RowMapping) -> list[DueStart]:
        request = TicketRequest(workflow=row["workflow"], parameters=row["parameters"], dag_run_id=row["dag_run_id"])
        try:
            ticket = await self._tickets.create(
                row["grant_id"], row["owner"], request, actor="schedule", lifetime=TICKET_LIFETIME
            )
        except ProblemError as error:
            if error.problem.status != 403:
                raise
            await self.stop(row["grant_id"], error.problem.detail)
            return []
        return [
            DueStart(
                user=row["owner"],
                due=row["due"],
                workflow=row["workflow"],
                parameters=row["parameters"],
                dag_run_id=row["dag_run_id"],
                ticket=ticket.ticket,
            )
        ]
