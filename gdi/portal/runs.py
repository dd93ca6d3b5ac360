"""Runs of a user: started once, listed, looked at, stopped, run again. The table says whose it is; Airflow runs it."""

from __future__ import annotations

import asyncio
import base64
import json
import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import sqlalchemy as sa
from sqlalchemy import RowMapping
from sqlalchemy.exc import IntegrityError

from gdi.contracts import broker_api as m
from gdi.contracts.ids import make_run_id
from gdi.contracts.portal_api import MAX_PAGE, RunStart, TokenOwner
from gdi.contracts.run_endings import ENDED, RunStanding
from gdi.contracts.workflow import CatalogueEntry
from gdi.kit.canonical import canonical_json, sha256_hex
from gdi.kit.database import insert
from gdi.kit.problem import ProblemError
from gdi.portal.airflow import AirflowClient
from gdi.portal.broker import BrokerForUsers
from gdi.portal.catalogue import Catalogue, check_parameters
from gdi.portal.consents import Consents
from gdi.portal.db.store import LISTED, PortalDatabase, runs
from gdi.portal.teams import DagNames

Row = Mapping[str, Any] | RowMapping
StartedBy = Literal["api", "wes"]
STOPPING: dict[str, Any] = {
    "standing": "stopping",
    "sentence": "You stopped the run; its tasks at the nodes are being cancelled.",
    "looked_at": 0.0,
}
SYNC_EVERY, SYNC_PAGES = 5.0, 50  # seconds between looks at the broker for a user's other runs; pages in one look


@dataclass(frozen=True)
class RunFilter:
    """What a list is narrowed to. Times in seconds since the epoch."""

    states: tuple[RunStanding, ...] = ()
    workflow: str | None = None
    dataset: str | None = None
    tags: dict[str, str] = field(default_factory=dict)
    created_after: float | None = None
    created_before: float | None = None


class UserRuns:
    """`start` and what follows, for a caller whose token the broker has looked at."""

    def __init__(
        self,
        store: PortalDatabase,
        broker: BrokerForUsers,
        airflow: AirflowClient,
        catalogue: Catalogue,
        consents: Consents,
        dags: DagNames,
    ) -> None:
        self._store, self._broker, self._airflow = store, broker, airflow
        self._catalogue, self._consents, self._dags = catalogue, consents, dags
        self._synced: dict[str, tuple[float, float]] = {}  # owner → when, and until which admission

    # --- starting --------------------------------------------------------------------------------

    async def start(
        self,
        caller: TokenOwner,
        token: str,
        request: RunStart,
        *,
        key: str | None = None,
        by: StartedBy = "api",
        wes: dict[str, Any] | None = None,
    ) -> tuple[RowMapping, bool]:
        """The run's row, and whether it had been started before with this key. The same key always means the same DAG
        run, so that a start may be sent again until it is answered.

        ProblemError: 404 `workflow-unknown`, 422 `bad-parameters`, 403 `consent-needed`, 409 `idempotency-mismatch`,
        the broker's own refusals, 503 where broker or Airflow are away.
        """
        entry = self._catalogue.entry(request.workflow)
        if request.digest is not None and request.digest != entry.digest:
            raise ProblemError(
                409,
                "workflow-changed",
                f"The catalogue has {entry.digest} of {request.workflow}, not {request.digest}.",
                action="Look at the new version, then start it.",
            )
        await asyncio.to_thread(check_parameters, entry, request.parameters)
        if len(set(request.datasets)) != len(request.datasets):
            raise ProblemError(422, "bad-datasets", "A dataset is named twice.", action="Name each dataset once.")
        request_hash = sha256_hex(canonical_json([request.model_dump(mode="json", exclude={"grant", "consent"}), wes]))
        start_key = None if key is None else sha256_hex(f"{caller.sub}\0{key}".encode())
        if start_key is not None and (known := await self._by_key(start_key)) is not None:
            return await self._repeated(known, request_hash, token, request), True
        grant = await self._consents.covering(token, request)
        name = f"{by}-{secrets.token_hex(16)}"  # nobody can have made a DAG run of this name before
        dag_id = self._dags.of(entry.workflow.name, caller.sub)
        row = self._row(caller, request, entry, dag_id, name) | {
            "start_key": start_key,
            "request_hash": request_hash,
            "wes": wes,
            "started_by": by,
            "grant_id": grant.id,
        }
        # Beside each other: a ticket of a start that another one was before serves nobody, and ends by itself.
        kept, ticket = await asyncio.gather(
            self._insert(row), self._ticket(row, token, grant.id), return_exceptions=True
        )
        if isinstance(kept, IntegrityError):  # the same start, sent twice at once
            known = await self._by_key(start_key or "")
            if known is None:
                raise kept
            return await self._repeated(known, request_hash, token, request), True
        if kept is not None:
            raise kept
        return await self._drive(row, ticket), False

    @staticmethod
    def _row(caller: TokenOwner, request: RunStart, entry: CatalogueEntry, dag_id: str, name: str) -> dict[str, Any]:
        return {
            "id": make_run_id(dag_id, name),
            "owner": caller.sub,
            "dag_id": dag_id,
            "dag_run_id": name,
            "workflow": entry.workflow.name,
            "title": entry.workflow.title,
            "version": entry.workflow.version,
            "digest": entry.digest,
            "datasets": request.datasets,
            "parameters": request.parameters,
            "tags": request.tags,
            "created_at": time.time(),
            "in_airflow": False,
            "standing": "starting",
            "sentence": "The start was taken and is on its way to Airflow.",
            "next_step": "",
            "fault": "",
            "looked_at": 0.0,
        }

    async def _repeated(self, known: RowMapping, request_hash: str, token: str, request: RunStart) -> RowMapping:
        if known["request_hash"] != request_hash:
            raise ProblemError(
                409,
                "idempotency-mismatch",
                "This Idempotency-Key was used for another start.",
                action="Use a new key for a new start, and the same key only to send one again.",
                run=known["id"],
            )
        if known["in_airflow"] or known["standing"] in ENDED:
            return known
        grant = await self._consents.covering(token, request)
        if known["stop_requested_at"] is not None:
            return known
        (ticket,) = await asyncio.gather(self._ticket(known, token, grant.id), return_exceptions=True)
        return await self._drive(known, ticket)

    async def _insert(self, row: Row) -> None:
        async with self._store.write() as c:
            await c.execute(runs.insert().values(**row))

    async def _ticket(self, row: Row, token: str, grant: str) -> m.Ticket:
        request = m.TicketRequest(workflow=row["workflow"], parameters=_parameters(row), dag_run_id=row["dag_run_id"])
        return await self._broker.ticket(token, grant, request)

    async def _drive(self, row: Row, ticket: m.Ticket | BaseException) -> RowMapping:
        """The DAG run, by a ticket or by what came instead of one. What is refused leaves no run behind; what could not
        be found out does.
        """
        here = runs.c.id == row["id"], runs.c.in_airflow.is_(False)
        try:
            if isinstance(ticket, BaseException):
                raise ticket
            conf = {"ticket": ticket.ticket, **_parameters(row)}
            await self._airflow.start(row["dag_id"], row["dag_run_id"], conf)
        except ProblemError as error:
            if error.problem.status < 500:
                async with self._store.write() as c:
                    await c.execute(runs.delete().where(*here))
            raise
        values = {"in_airflow": True, "standing": "queued", "sentence": "The run waits for its turn."}
        async with self._store.write() as c:
            update = runs.update().where(*here).values(**values).returning(runs)
            found = (await c.execute(update)).mappings().one_or_none()
        started = found or await self._known(row["id"])  # none: the watch saw it first
        if started["stop_requested_at"] is None:
            return started
        await self._airflow.stop(started["dag_id"], started["dag_run_id"])  # it was asked for on the way
        async with self._store.write() as c:
            await c.execute(runs.update().where(runs.c.id == row["id"]).values(**STOPPING, ended_at=None))
        return await self._known(row["id"])

    async def again(self, caller: TokenOwner, token: str, run: str, key: str | None) -> tuple[RowMapping, bool]:
        """A new run of the same workflow, datasets and parameters; the catalogue's version of now."""
        old = await self.of(caller, run)
        request = RunStart(
            workflow=old["workflow"],
            datasets=old["datasets"],
            parameters=old["parameters"] or await self._conf(old),
            tags=old["tags"],
        )
        return await self.start(caller, token, request, key=key)

    async def _conf(self, row: RowMapping) -> dict[str, Any]:
        found = await self._airflow.dag_run(row["dag_id"], row["dag_run_id"])
        return {k: v for k, v in (found.conf if found else {}).items() if k not in ("datasets", "pod")}

    # --- looking ---------------------------------------------------------------------------------

    async def of(self, caller: TokenOwner, run: str) -> RowMapping:
        """The caller's run. The same 404 for a run that is not there and for somebody else's."""
        row = await self._find(runs.c.id == run)
        if row is None or row["owner"] != caller.sub:
            raise ProblemError(
                404, "run-unknown", f"There is no run {run} that you may see.", action="GET /v1/runs lists yours."
            )
        return row

    async def own(self, caller: TokenOwner, token: str, run: str) -> RowMapping:
        """As `of`; one that was started elsewhere is taken in when it is first asked for."""
        try:
            return await self.of(caller, run)
        except ProblemError as error:
            if error.problem.status != 404:
                raise
        await self.sync(caller, token)
        return await self.of(caller, run)

    async def parameters(self, row: RowMapping) -> dict[str, Any]:
        """As they were started: of a run that was not started here, from Airflow."""
        known: dict[str, Any] = row["parameters"]
        return known if known or row["started_by"] in ("api", "wes") else await self._conf(row)

    async def page(
        self, caller: TokenOwner, wanted: RunFilter, size: int, page_token: str
    ) -> tuple[list[RowMapping], str]:
        """The newest first, and the token of the next page, empty on the last one."""
        t = runs.c
        query = sa.select(*LISTED).where(t.owner == caller.sub)
        if wanted.states:
            query = query.where(t.standing.in_(wanted.states))
        if wanted.workflow is not None:
            query = query.where(t.workflow == wanted.workflow)
        for name, value in wanted.tags.items():
            query = query.where(t.tags[name].as_string() == value)
        if wanted.created_after is not None:
            query = query.where(t.created_at > wanted.created_after)
        if wanted.created_before is not None:
            query = query.where(t.created_at < wanted.created_before)
        if wanted.dataset is not None:
            query = query.where(sa.cast(t.datasets, sa.Text).contains(f'"{wanted.dataset}"', autoescape=True))
        if page_token:
            at, run = _place(page_token)
            query = query.where(sa.or_(t.created_at < at, sa.and_(t.created_at == at, t.id < run)))
        size = max(1, min(size, MAX_PAGE))
        async with self._store.read() as c:
            ordered = query.order_by(t.created_at.desc(), t.id.desc()).limit(size + 1)
            found = list((await c.execute(ordered)).mappings())
        more = found[size - 1] if len(found) > size else None
        return found[:size], "" if more is None else _token(more["created_at"], more["id"])

    async def counts(self, caller: TokenOwner) -> dict[tuple[RunStanding, str, bool], int]:
        """How many of the caller's runs stand how, by standing, fault and whether their user stopped them."""
        by = runs.c.standing, runs.c.fault, runs.c.stop_requested_at.is_not(None)
        query = sa.select(*by, sa.func.count()).where(runs.c.owner == caller.sub).group_by(*by)
        async with self._store.read() as c:
            return {(row[0], row[1], bool(row[2])): row[3] for row in await c.execute(query)}

    async def sync(self, caller: TokenOwner, token: str) -> None:
        """Takes in the caller's runs that were started elsewhere: by a schedule, in Airflow, by another portal. A
        broker that is away changes nothing: what is known here is still shown.
        """
        now = time.monotonic()
        at, after = self._synced.get(caller.sub, (-SYNC_EVERY, 0.0))
        if now - at < SYNC_EVERY:
            return
        for _ in range(SYNC_PAGES):
            try:
                page = await self._broker.own_runs(token, after)
            except ProblemError as error:
                if error.problem.status >= 500 or error.problem.status == 429:
                    return
                raise
            await self._take(caller, page.runs)
            after = max([after, *(run.opened_at for run in page.runs)])
            if not page.more:
                break
        self._synced[caller.sub] = (now, after)

    async def _take(self, caller: TokenOwner, found: list[m.Run]) -> None:
        entries = self._catalogue.entries()
        rows: list[dict[str, Any]] = [
            {
                "id": run.id,
                "owner": caller.sub,
                "start_key": None,
                "request_hash": "",
                "dag_id": run.dag_id,
                "dag_run_id": run.dag_run_id,
                "workflow": run.workflow,
                "title": entries[run.workflow].workflow.title if run.workflow in entries else run.workflow,
                "version": (
                    entries[run.workflow].workflow.version
                    if run.workflow in entries and entries[run.workflow].digest == run.digest
                    else ""
                ),
                "digest": run.digest,
                "datasets": run.datasets,
                "parameters": {},
                "tags": {},
                "wes": None,
                "started_by": "schedule" if run.dag_run_id.startswith(SCHEDULED) else "airflow",
                "grant_id": None,
                "created_at": run.opened_at,
                "in_airflow": True,
                "standing": "running",
                "sentence": "The run was admitted.",
                "next_step": "",
                "fault": "",
                "looked_at": 0.0,
            }
            for run in found
            if run.user == caller.sub
        ]
        async with self._store.write() as c:
            for at in range(0, len(rows), 100):
                await c.execute(insert(c, runs).values(rows[at : at + 100]).on_conflict_do_nothing())

    # --- stopping --------------------------------------------------------------------------------

    async def stop(self, caller: TokenOwner, run: str) -> RowMapping:
        """Asks that the run ends: its tasks at the nodes are cancelled. Of a run that has ended nothing changes."""
        row = await self.of(caller, run)
        if row["standing"] in ENDED:
            return row
        async with self._store.write() as c:
            await c.execute(
                runs.update()
                .where(runs.c.id == run, runs.c.stop_requested_at.is_(None))
                .values(stop_requested_at=time.time())
            )
        there = await self._airflow.stop(row["dag_id"], row["dag_run_id"])
        values = dict(STOPPING)
        if not there:
            values |= {
                "standing": "stopped",
                "sentence": "You stopped the run before it began.",
                "ended_at": time.time(),
            }
        async with self._store.write() as c:
            await c.execute(runs.update().where(runs.c.id == run, runs.c.ended_at.is_(None)).values(**values))
        return await self._known(run)

    # --- the table -------------------------------------------------------------------------------

    async def _known(self, run: str) -> RowMapping:
        row = await self._find(runs.c.id == run)
        if row is None:
            raise ProblemError(404, "run-unknown", f"There is no run {run}.", action="Start it again.")
        return row

    async def _by_key(self, start_key: str) -> RowMapping | None:
        return await self._find(runs.c.start_key == start_key)

    async def _find(self, which: sa.ColumnElement[bool]) -> RowMapping | None:
        async with self._store.read() as c:
            return (await c.execute(sa.select(runs).where(which))).mappings().one_or_none()


def _parameters(row: Row) -> dict[str, Any]:
    return {"datasets": row["datasets"], **row["parameters"]}


SCHEDULED = "recurring__"  # as token_broker names the DAG runs of schedules


def _token(created_at: float, run: str) -> str:
    return base64.urlsafe_b64encode(json.dumps([created_at, run]).encode()).decode().rstrip("=")


def _place(page_token: str) -> tuple[float, str]:
    """ProblemError 422 `bad-page-token` for one that was not made here."""
    try:
        padded = page_token + "=" * (-len(page_token) % 4)
        at, run = json.loads(base64.urlsafe_b64decode(padded.encode()))
        if not isinstance(run, str) or isinstance(at, bool) or not isinstance(at, int | float):
            raise ValueError
        return float(at), run
    except (ValueError, TypeError):
        raise ProblemError(
            422,
            "bad-page-token",
            "This page_token was not made by this server.",
            action="Ask for the first page again.",
        ) from None
