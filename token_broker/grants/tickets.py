"""Tickets: one start under a grant, bound to workflow and parameters, good once. Only the SHA-256 of a ticket is
kept.
"""

from __future__ import annotations

import secrets
import time

import sqlalchemy as sa
from sqlalchemy import RowMapping

from gdi.contracts.grants import Ticket, TicketRequest
from gdi.kit.canonical import sha256_hex
from gdi.kit.problem import ProblemError
from token_broker.audit import Audit
from token_broker.db.store import BrokerDatabase, tickets
from token_broker.grants.grants import Grants, not_yours
from token_broker.grants.parameters import datasets_of, hash_of

MAX_PARAMETERS = 256 * 1024
KEEP = 30 * 86400  # used tickets are remembered this long, so that a second use is named as such
AGAIN = "Make a new ticket: POST /v1/grants/{id}/tickets."


class Tickets:
    def __init__(self, store: BrokerDatabase, grants: Grants, audit: Audit, lifetime: float) -> None:
        self._store, self._grants, self._audit, self._lifetime = store, grants, audit, lifetime

    async def create(
        self, grant: str, user: str, request: TicketRequest, *, actor: str, lifetime: float | None = None
    ) -> Ticket:
        """A new ticket of the user's own, active grant, for a workflow and datasets that it covers."""
        row = await self._grants.row(grant)
        if row is None or row["owner"] != user:
            raise not_yours(grant)
        row = await self._grants.serving(grant)
        check_covers(row, request.workflow, datasets_of(request.parameters))
        ticket = "gdit_" + secrets.token_urlsafe(32)
        expires = min(time.time() + (lifetime or self._lifetime), row["expires_at"])
        async with self._store.write() as c:
            await c.execute(
                tickets.insert().values(
                    hash=sha256_hex(ticket.encode()),
                    grant_id=grant,
                    owner=user,
                    workflow=request.workflow,
                    parameters_hash=hash_of(request.parameters),
                    dag_run_id=request.dag_run_id,
                    expires_at=expires,
                )
            )
        await self._audit.record(actor, "ticket.create", owner=user, grant=grant, reason=f"workflow {request.workflow}")
        return Ticket(ticket=ticket, expires_at=expires)

    async def use(
        self,
        ticket: str,
        run: str,
        *,
        workflow: str,
        phash: str,
        dag_run_id: str,
        run_after: float | None = None,
        triggering_user: str | None,
        portal_users: set[str],
    ) -> RowMapping:
        """Uses the ticket up for `run`; the same run may show it again (a repeated request). 403 with the reason
        otherwise; a mismatch does not use it up.

        A start that Airflow has taken does not expire, however long it waits for its turn: what counts is `run_after`,
        the time at which Airflow took it; for a ticket that names its run nothing does.

        Looked up by hash: how long that takes tells nothing of any ticket.
        """
        key = sha256_hex(ticket.encode("utf-8", "replace"))
        async with self._store.read() as c:
            row = (await c.execute(sa.select(tickets).where(tickets.c.hash == key))).mappings().one_or_none()
        if row is None:
            raise ProblemError(403, "ticket-unknown", "This ticket is not known.", action=AGAIN)
        if row["used_run"] not in (None, run):
            raise await self._refuse(row, run, "ticket-used", "This ticket was used before, for another run.")
        begins = time.time() if run_after is None else min(time.time(), run_after)
        if row["used_run"] is None and row["dag_run_id"] is None and row["expires_at"] <= begins:
            raise await self._refuse(
                row,
                run,
                "ticket-expired",
                "This ticket has expired: it ended before the run was to begin. One that names its dag_run_id serves"
                " for that run whenever it begins.",
            )
        if row["workflow"] != workflow:
            raise await self._refuse(
                row, run, "ticket-mismatch", f"This ticket is for another workflow than {workflow}."
            )
        if row["parameters_hash"] != phash:
            raise await self._refuse(
                row, run, "ticket-mismatch", "This ticket is for other parameters than those of this run."
            )
        if row["dag_run_id"] is not None and row["dag_run_id"] != dag_run_id:
            raise await self._refuse(row, run, "ticket-mismatch", "This ticket is for another Airflow run id.")
        if triggering_user is not None and triggering_user != row["owner"] and triggering_user not in portal_users:
            raise await self._refuse(
                row, run, "ticket-mismatch", "This ticket belongs to another user than the one who started the run."
            )
        async with self._store.write() as c:
            done = await c.execute(
                tickets.update()
                .where(tickets.c.hash == key, sa.or_(tickets.c.used_run.is_(None), tickets.c.used_run == run))
                .values(used_run=run, used_at=time.time())
            )
        if done.rowcount != 1:
            raise await self._refuse(row, run, "ticket-used", "This ticket was used before, for another run.")
        return row

    async def _refuse(self, row: RowMapping, run: str, slug: str, detail: str) -> ProblemError:
        await self._audit.record(
            "airflow", "ticket.use", allowed=False, owner=row["owner"], run=run, grant=row["grant_id"], reason=slug
        )
        return ProblemError(403, slug, detail, action=AGAIN)

    async def forget_old(self) -> None:
        async with self._store.write() as c:
            await c.execute(tickets.delete().where(tickets.c.expires_at < time.time() - KEEP))


def check_covers(grant: RowMapping, workflow: str, datasets: list[str]) -> None:
    """403 unless the user's consent covers this workflow and all of these datasets."""
    if workflow not in grant["workflows"]:
        raise ProblemError(
            403,
            "workflow-not-granted",
            f"The grant does not cover the workflow {workflow}.",
            action="Give consent for it (a new grant).",
            workflow=workflow,
        )
    missing = [d for d in datasets if d not in set(grant["datasets"])]
    if missing:
        names = ", ".join(missing[:10])
        raise ProblemError(
            403,
            "dataset-not-granted",
            f"The grant does not cover: {names}.",
            action="Give consent for these datasets (a new grant).",
            datasets=missing[:100],
        )
