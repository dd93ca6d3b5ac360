"""Tickets: one start under a grant, bound to workflow and parameters, good once. Only the SHA-256 of a ticket is
kept.
"""

from __future__ import annotations

import secrets
import time

import sqlalchemy as sa
from sqlalchemy import RowMapping

from gdi.contracts.grants import Ticket, TicketRequest
from gdi.kit.canonical import canonical_json, sha256_hex
from gdi.kit.problem import ProblemError
from token_broker.audit import Audit
from token_broker.db.store import BrokerDatabase, tickets
from token_broker.grants.grants import Grants, not_yours
from token_broker.grants.parameters import datasets_of, hash_of

MAX_PARAMETERS = 256 * 1024
KEEP = 30 * 86400  # used tickets are remembered this long, so that a second use is named as such
FORM_LIFETIME = 300.0  # seconds, of a ticket that a person copies into Airflow's form
FORM = "form:"  # begins what such a ticket is bound to; of all others it is the parameters' hash
AGAIN = "Make a new ticket: POST /v1/grants/{id}/tickets."


def form_binding(datasets: list[str], digest: str) -> str:
    """What a ticket for Airflow's form is bound to, at most 64 characters."""
    return FORM + sha256_hex(canonical_json({"datasets": sorted(set(datasets)), "digest": digest}))[:59]


class Tickets:
    def __init__(self, store: BrokerDatabase, grants: Grants, audit: Audit, lifetime: float) -> None:
        self._store, self._grants, self._audit, self._lifetime = store, grants, audit, lifetime

    async def create(
        self, grant: str, user: str, request: TicketRequest, *, actor: str, lifetime: float | None = None
    ) -> Ticket:
        """A new ticket of the user's own, active grant, for a workflow and datasets that it covers."""
        bound, datasets = hash_of(request.parameters), datasets_of(request.parameters)
        values = {"workflow": request.workflow, "parameters_hash": bound, "dag_run_id": request.dag_run_id}
        return await self._insert(grant, user, values, datasets, actor, lifetime or self._lifetime)

    async def create_for_form(
        self, grant: str, user: str, workflow: str, datasets: list[str], digest: str = "", *, actor: str
    ) -> Ticket:
        """A ticket for Airflow's form, where the user chooses the parameters: it is bound to these datasets, to the
        version `digest` of the workflow (any where it is empty), and to the user by Airflow's own word for who started.
        It lives FORM_LIFETIME at most.
        """
        bound = form_binding(datasets, digest)
        values = {"workflow": workflow, "parameters_hash": bound, "dag_run_id": None}
        lifetime = min(FORM_LIFETIME, self._lifetime)
        return await self._insert(grant, user, values, datasets, actor, lifetime)

    async def _insert(
        self, grant: str, user: str, values: dict[str, str | None], datasets: list[str], actor: str, lifetime: float
    ) -> Ticket:
        row = await self._grants.row(grant)
        if row is None or row["owner"] != user:
            raise not_yours(grant)
        row = await self._grants.serving(grant)
        workflow = str(values["workflow"])
        check_covers(row, workflow, datasets)
        ticket = "gdit_" + secrets.token_urlsafe(32)
        expires = min(time.time() + lifetime, row["expires_at"])
        fixed = {"hash": sha256_hex(ticket.encode()), "grant_id": grant, "owner": user, "expires_at": expires}
        async with self._store.write() as c:
            await c.execute(tickets.insert().values(**fixed, **values))
        await self._audit.record(actor, "ticket.create", owner=user, grant=grant, reason=f"workflow {workflow}")
        return Ticket(ticket=ticket, expires_at=expires)

    async def use(
        self,
        ticket: str,
        run: str,
        *,
        workflow: str,
        phash: str,
        datasets: list[str],
        digest: str,
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
        of_form = row["parameters_hash"].startswith(FORM)
        if of_form and row["parameters_hash"] not in (form_binding(datasets, digest), form_binding(datasets, "")):
            raise await self._refuse(
                row,
                run,
                "ticket-mismatch",
                "This ticket is for other datasets than those of this run, or for another version of the workflow.",
            )
        if not of_form and row["parameters_hash"] != phash:
            raise await self._refuse(
                row, run, "ticket-mismatch", "This ticket is for other parameters than those of this run."
            )
        if row["dag_run_id"] is not None and row["dag_run_id"] != dag_run_id:
            raise await self._refuse(row, run, "ticket-mismatch", "This ticket is for another Airflow run id.")
        nobody = triggering_user is None or triggering_user in portal_users
        if triggering_user != row["owner"] and (of_form or not nobody):
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
