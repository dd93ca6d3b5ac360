"""Runs: admitted (idempotent on DAG id, run id and attempt), looked at, closed. A later attempt is admitted anew, with
the visas of that moment.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from typing import Any

import sqlalchemy as sa
from sqlalchemy import RowMapping
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from gdi.contracts import needed
from gdi.contracts.committees import CommitteeStop, Departure
from gdi.contracts.ids import make_run_id
from gdi.contracts.runs import AdmitRequest, CloseRequest, Run
from gdi.kit import tracing
from gdi.kit.problem import ProblemError
from token_broker.audit import Audit
from token_broker.db.store import BrokerDatabase, grants, runs
from token_broker.enrolment import EnrolmentFile
from token_broker.grants.grants import Grants, not_yours
from token_broker.grants.parameters import datasets_of, hash_of
from token_broker.grants.tickets import Tickets, check_covers
from token_broker.runs import late_parts
from token_broker.runs.admission import Admission


class Runs:
    """`on_refused(grant, dag_run_id, error)` is told of every run that admission refused. `same_version(grant,
    dag_run_id, digest)` refuses a scheduled start of another version than the schedule's. `on_closed(grant,
    dag_run_id)` is told of every attempt that ended.
    """

    on_refused: Callable[[str, str, ProblemError], Awaitable[None]]
    same_version: Callable[[str, str, str], Awaitable[None]]
    on_closed: Callable[[str, str], Awaitable[None]]

    def __init__(
        self,
        store: BrokerDatabase,
        grants_: Grants,
        tickets: Tickets,
        admission: Admission,
        enrolment: EnrolmentFile,
        audit: Audit,
    ) -> None:
        self._store, self._grants, self._tickets = store, grants_, tickets
        self._admission, self._enrolment, self._audit = admission, enrolment, audit

    async def admit(self, request: AdmitRequest) -> Run:
        """The run, open at this attempt. 403 refusals (ticket-*, grant-*, access-denied), 409 where it contradicts what
        is known.
        """
        run = make_run_id(request.dag_id, request.dag_run_id)
        phash, datasets = hash_of(request.parameters), datasets_of(request.parameters)
        known = await self.row(run)
        if known is not None:
            self._same(known, request, phash)
            if request.attempt == known["attempt"] and known["state"] == "open":
                await self._grants.serving(known["grant_id"], run)
                return as_run(known)
            if request.attempt <= known["attempt"]:
                raise ProblemError(
                    409,
                    "attempt-over",
                    f"Attempt {request.attempt} of run {run} is over (the run is at attempt {known['attempt']},"
                    f" {known['state']}).",
                    action=f"Open attempt {known['attempt'] + 1}.",
                )
            grant = await self._grants.serving(known["grant_id"], run)
        else:
            grant = await self._starting_grant(request, run, phash)
        check_covers(grant, request.workflow, datasets)
        try:
            plan = await self._admission.plan(grant=grant["id"], user=grant["owner"], datasets=datasets, run=run)
            must_answer = _needed(request.parameters.get(needed.PARAMETER), [item.node for item in plan])
        except ProblemError as error:
            await self.on_refused(grant["id"], request.dag_run_id, error)
            raise
        values = {
            "attempt": request.attempt,
            "state": "open",
            "outcome": "",
            "failing": None,
            "closed_at": None,
            "opened_at": time.time(),
            "plan": [p.model_dump(mode="json") for p in plan],
            "needed": must_answer,
            "trace": tracing.current() or None,
        }
        if known is not None:
            await self._reopen(run, known["attempt"], values)
        else:
            fixed = {
                "id": run,
                "dag_id": request.dag_id,
                "dag_run_id": request.dag_run_id,
                "workflow": request.workflow,
                "digest": request.digest,
                "owner": grant["owner"],
                "grant_id": grant["id"],
                "parameters_hash": phash,
                "datasets": datasets,
                "event_count": 0,
            }
            try:
                await self._insert(run, grant, {**fixed, **values})
            except IntegrityError:  # the same request was faster: answer what it made
                return await self.admit(request)
        await self._audit.record(
            "airflow",
            "run.open",
            owner=grant["owner"],
            run=run,
            grant=grant["id"],
            reason=f"attempt {request.attempt} of {request.workflow}",
        )
        return await self.get(run)

    async def _starting_grant(self, request: AdmitRequest, run: str, phash: str) -> RowMapping:
        """The grant under which a new run starts: by ticket, or by naming it in the Airflow UI."""
        if (request.ticket is None) == (request.grant is None):
            raise ProblemError(
                422,
                "ticket-or-grant",
                "A first attempt needs one of ticket and grant.",
                action="Send the ticket of this start, or your grant.",
            )
        if request.ticket is not None:
            ticket = await self._tickets.use(
                request.ticket,
                run,
                workflow=request.workflow,
                phash=phash,
                datasets=datasets_of(request.parameters),
                digest=request.digest,
                dag_run_id=request.dag_run_id,
                run_after=request.run_after,
                triggering_user=request.triggering_user,
                portal_users=self._enrolment.current.portal_airflow_users,
            )
            await self.same_version(ticket["grant_id"], request.dag_run_id, request.digest)
            return await self._grants.serving(ticket["grant_id"], run)
        assert request.grant is not None
        if not self._enrolment.current.believe_airflow_users:
            await self._audit.record("airflow", "run.admit", allowed=False, run=run, reason="ticket-needed")
            raise ProblemError(
                403,
                "ticket-needed",
                "A start needs a ticket here: Airflow's word for who you are does not suffice.",
                action="Make a ticket at your portal, or by the link at the form's field Ticket, and start with it.",
            )
        row = await self._grants.row(request.grant)
        if row is None or request.triggering_user is None or row["owner"] != request.triggering_user:
            await self._audit.record(
                "airflow",
                "run.admit",
                allowed=False,
                owner=row["owner"] if row else None,
                run=run,
                grant=request.grant,
                reason="grant-not-yours",
            )
            raise not_yours(request.grant)
        return await self._grants.serving(request.grant, run)

    async def _insert(self, run: str, grant: RowMapping, values: dict[str, Any]) -> None:
        """One transaction: a grant for one run is used up exactly if the run comes to be."""
        async with self._store.write() as c:
            if grant["mode"] == "once":
                done = await c.execute(
                    grants.update()
                    .where(grants.c.id == grant["id"], sa.or_(grants.c.state == "active", grants.c.used_run == run))
                    .values(state="used", used_run=run)
                )
            else:
                done = await c.execute(
                    grants.update()
                    .where(grants.c.id == grant["id"], grants.c.state == "active")
                    .values(label=grants.c.label)
                )
            if done.rowcount != 1:
                raise ProblemError(
                    403,
                    "grant-inactive",
                    "The grant ended or was used while this run was admitted.",
                    action="Give consent again.",
                )
            await c.execute(runs.insert().values(**values))

    async def _reopen(self, run: str, from_attempt: int, values: dict[str, Any]) -> None:
        async with self._store.write() as c:
            done = await c.execute(
                runs.update().where(runs.c.id == run, runs.c.attempt == from_attempt).values(**values)
            )
        if done.rowcount != 1:
            row = await self.row(run)
            if row is None or row["attempt"] != values["attempt"] or row["state"] != "open":
                raise ProblemError(
                    409,
                    "attempt-over",
                    "Another attempt was opened at the same time.",
                    action="Look at the run and open the next attempt.",
                )

    @staticmethod
    def _same(known: RowMapping, request: AdmitRequest, phash: str) -> None:
        for name, before, now in (
            ("workflow", known["workflow"], request.workflow),
            ("workflow digest", known["digest"], request.digest),
            ("parameters", known["parameters_hash"], phash),
        ):
            if before != now:
                raise ProblemError(
                    409,
                    "run-mismatch",
                    f"The {name} of run {known['id']} differs from that of its first attempt.",
                    action="Start a new run with a new ticket.",
                )

    async def row(self, run: str) -> RowMapping | None:
        async with self._store.read() as c:
            return (await c.execute(sa.select(runs).where(runs.c.id == run))).mappings().one_or_none()

    async def known(self, run: str) -> RowMapping:
        row = await self.row(run)
        if row is None:
            raise unknown(run)
        return row

    async def get(self, run: str) -> Run:
        return as_run(await self.known(run))

    async def open_runs(self, after: str, limit: int) -> list[Run]:
        """Runs that are open, by id."""
        query = sa.select(runs).where(runs.c.state == "open", runs.c.id > after).order_by(runs.c.id).limit(limit)
        async with self._store.read() as c:
            return [as_run(r) for r in (await c.execute(query)).mappings()]

    async def owned(self, owner: str, after: float, limit: int) -> list[Run]:
        """A user's runs by the moment of their admission, oldest first, those after `after`."""
        query = sa.select(runs).where(runs.c.owner == owner, runs.c.opened_at > after)
        async with self._store.read() as c:
            return [as_run(r) for r in (await c.execute(query.order_by(runs.c.opened_at).limit(limit))).mappings()]

    async def add_departures(self, c: AsyncConnection, run: str, left: list[Departure]) -> None:
        """What left a node after the run's close."""
        row = (await c.execute(sa.select(runs).where(runs.c.id == run).with_for_update())).mappings().one()
        await c.execute(runs.update().where(runs.c.id == run).values(released=_left(row["released"] or [], left)))

    async def end_late(self, c: AsyncConnection, stop: CommitteeStop, covers: Callable[[str], bool]) -> None:
        """Parts of what is stopped are waited for no more: their orders end, and no answer gets them. What left their
        nodes before is told of as ever.
        """
        for run, node, attempt in sorted(await late_parts.of_stop(c, stop, covers)):
            await self.add_departures(c, run, await late_parts.forget(c, run, node, attempt))

    async def _may_be_late(self, row: RowMapping) -> bool:
        """Whether the run's grant is in force, and no committee stopped it."""
        try:
            await self._grants.serving(row["grant_id"], row["id"])
        except ProblemError:
            return False
        return True

    async def open_for(self, row: RowMapping, node: str) -> bool:
        """Whether the run is open, or this node is late and still works on its part."""
        if row["state"] == "open":
            return True
        async with self._store.read() as c:
            return await late_parts.is_late(c, row, node)

    async def need_open_for(self, row: RowMapping, node: str) -> None:
        """409 `run-closed` where it is not `open_for` the node."""
        if not await self.open_for(row, node):
            need_open(row)

    async def close(self, run: str, request: CloseRequest) -> Run:
        """Ends the attempt. Closing twice, or an attempt that a later one replaced, changes nothing and is no error."""
        row = await self.known(run)
        if request.attempt > row["attempt"]:
            raise ProblemError(
                409,
                "attempt-unknown",
                f"Run {run} has no attempt {request.attempt}.",
                action="Close the attempt that is open.",
            )
        late = request.late if request.outcome == "success" and row["state"] == "open" else None
        late = late if late and await self._may_be_late(row) else None
        async with self._store.write() as c:
            if late:
                await late_parts.keep(c, run, request.attempt, late)
            done = await c.execute(
                runs.update()
                .where(runs.c.id == run, runs.c.attempt == request.attempt, runs.c.state == "open")
                .values(
                    state="closed",
                    outcome=request.outcome,
                    closed_at=time.time(),
                    released=_left(row["released"] or [], request.released),
                )
            )
        if done.rowcount == 1:
            await self._audit.record(
                "airflow",
                "run.close",
                owner=row["owner"],
                run=run,
                grant=row["grant_id"],
                reason=f"attempt {request.attempt}: {request.outcome}",
            )
            await self.on_closed(row["grant_id"], row["dag_run_id"])
        return await self.get(run)


def _left(before: list[dict[str, Any]], now: list[Departure]) -> list[dict[str, Any]]:
    """What left in any attempt, each file once."""
    found = {(one["node"], one["name"], one["sha256"]): one for one in before}
    found |= {(one.node, one.name, one.sha256): one.model_dump(mode="json") for one in now}
    return list(found.values())


def _needed(value: Any, planned: list[str]) -> Any:  # JSON, of the conf
    try:
        reason = needed.wrong(needed.read(value), planned)
    except ValueError as error:
        reason = str(error)
    if reason:
        raise ProblemError(422, "bad-parameters", f"{reason}.", action="Correct `nodes` and start again.")
    return value


def unknown(run: str) -> ProblemError:
    return ProblemError(404, "run-unknown", f"There is no run {run} that you may see.", action="Check the run's id.")


def need_open(row: RowMapping, attempt: int | None = None) -> None:
    """409 `run-closed` or `attempt-over` unless the run is open (at this attempt)."""
    if row["state"] != "open":
        raise ProblemError(
            409, "run-closed", f"Run {row['id']} is closed.", action="Open the next attempt in Airflow to go on."
        )
    if attempt is not None and attempt != row["attempt"]:
        raise ProblemError(
            409,
            "attempt-over",
            f"Run {row['id']} is at attempt {row['attempt']}, not {attempt}.",
            action="Stop: a later attempt took over.",
        )


def as_run(row: RowMapping) -> Run:
    return Run(
        id=row["id"],
        dag_id=row["dag_id"],
        dag_run_id=row["dag_run_id"],
        attempt=row["attempt"],
        state=row["state"],
        outcome=row["outcome"],
        workflow=row["workflow"],
        digest=row["digest"],
        user=row["owner"],
        datasets=row["datasets"],
        plan=row["plan"],
        failing=row["failing"],
        needed=row["needed"],
        opened_at=row["opened_at"],
        closed_at=row["closed_at"],
    )
