"""What the gateway remembers of tasks: written before the TES is wanted, so that a crash at any instant leaves a trail
that leads to the task.
"""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

import sqlalchemy as sa

from gdi.contracts.urls import HtsgetUrl, SdaUrl
from gdi.kit.canonical import sha256_hex
from gdi.kit.database import hold
from gdi.kit.problem import ProblemError
from node_gateway.auth import Caller
from node_gateway.db import store as db
from node_gateway.redaction import CAPABILITY_PREFIX, redact
from node_gateway.tasks.answer import Denial
from node_gateway.tasks.check import CheckedTask
from node_gateway.tasks.tes_client import TesAway

t = db.tasks.c
OWN_JOB = "own:"  # begins the job of a task of the node's own: no run may name one so
OWN_RUN = "own"  # of such a task that belongs to no run
CHUNK = 500  # SQLite's bound on variables
MAX_TOTALS = 10_000  # runs whose totals are kept at once

# Statements of every task, made once: what SQLAlchemy finds out about one is kept with it.
_TOTALS = sa.select(sa.func.count(), sa.func.coalesce(sa.func.sum(t.bytes), 0)).where(
    t.run == sa.bindparam("of_run"), t.phase != "refused"
)
_LATEST = (
    sa.select(db.tasks)
    .where(
        t.run == sa.bindparam("of_run"),
        t.job == sa.bindparam("of_job"),
        t["try"] == sa.bindparam("of_try"),
        t.phase != "refused",
    )
    .order_by(t.number.desc())
    .limit(1)
)
_TRAILS = sa.select(t.tes_id, t.number, t.ended, t.run).where(t.job.not_like(f"{OWN_JOB}%"))
_THESE = {  # by whether it is PostgreSQL's: with one variable for all ids, not one for each
    True: _TRAILS.where(t.tes_id == sa.any_(sa.bindparam("ids", type_=sa.ARRAY(sa.String)))),
    False: _TRAILS.where(t.tes_id.in_(sa.select(sa.func.json_each(sa.bindparam("ids")).table_valued("value").c.value))),
}
_INSERT = db.tasks.insert()
_CREATED = (
    sa.update(db.tasks)
    .where(t.number == sa.bindparam("of_number"), sa.or_(t.phase == "creating", t.tes_id == sa.bindparam("of_id")))
    .values(phase="created", tes_id=sa.bindparam("of_id"))
)


def new_capability() -> tuple[str, str]:
    """(the secret with 256 random bits, its SHA-256 in hex): only the second is stored."""
    secret = CAPABILITY_PREFIX + secrets.token_urlsafe(32)
    return secret, sha256_hex(secret.encode())


@dataclass(frozen=True)
class Known:
    """A task as remembered. `inputs`: the archive files it may read, as `right` has them."""

    number: int
    run: str
    attempt: int
    user: str
    job: str
    try_: str
    intent: str
    phase: str
    tes_id: str
    ended: str
    key_fingerprint: str
    inputs: frozenset[tuple[str, str]]
    outputs: tuple[str, ...]


class TaskTrail(NamedTuple):
    """What a list needs of a task: its number here, and its final state once that was seen."""

    number: int
    ended: str


def _known(row: sa.Row[Any]) -> Known:
    inputs = frozenset((d, p) for d, p in row.inputs)
    return Known(
        row.number,
        row.run,
        row.attempt,
        row.user,
        row.job,
        getattr(row, "try"),
        row.intent,
        row.phase,
        row.tes_id or "",
        row.ended or "",
        row.key_fingerprint,
        inputs,
        tuple(path for path in row.outputs if not path.endswith("/")),
    )


def right(file: SdaUrl | HtsgetUrl) -> tuple[str, str]:
    """(dataset, path) of a file; of an htsget input the path is what it may ask, which always has a `?`."""
    if isinstance(file, SdaUrl):
        return file.dataset, file.path
    request = file.request
    assert request is not None, "the check takes slices of this archive only"
    return file.dataset, request.target


class TooManyTasks(Exception):
    """The run has as many tasks as the node allows."""


class TooManyBytes(Exception):
    """With this task the run's tasks would be larger than the node allows."""


@dataclass(frozen=True)
class Reservation:
    """What is written of a task before the TES has it. `capability` is a secret's SHA-256, `files` the paths of its
    outputs, `size` its bytes; the run may have `limit` tasks of `max_bytes` together.
    """

    intent: str
    capability: str | None
    key_fingerprint: str
    files: list[str]
    size: int
    limit: int
    max_bytes: int


class TaskStore:
    def __init__(self, database: db.GatewayDatabase) -> None:
        self._db = database
        self._totals: dict[str, tuple[int, int]] = {}  # by run; kept only where no other gateway changes them

    async def begin(self, caller: Caller, checked: CheckedTask, wanted: Reservation) -> int:
        """The number of the task's trail. It is reserved here and created afterwards: TooManyTasks, TooManyBytes where
        the run would have more than it may, however many begin at once.
        """
        try:
            return await self._db.transact(lambda connection: self._begin(connection, caller, checked, wanted))
        except BaseException:
            self._totals.pop(caller.run, None)  # it may not have been committed
            raise

    async def latest_or_begun(
        self, caller: Caller, checked: CheckedTask, wanted: Reservation, admit: Callable[[sa.Connection], object]
    ) -> Known | int:
        """The job's latest task or, where it has none, the number of its trail, as `begin` gives it; all in one
        transaction, in which `admit` is called first and may refuse.
        """

        def work(connection: sa.Connection) -> Known | int:
            admit(connection)
            given = {"of_run": caller.run, "of_job": checked.job, "of_try": checked.try_}
            if (row := connection.execute(_LATEST, given).first()) is not None:
                return _known(row)
            return self._begin(connection, caller, checked, wanted)

        try:
            return await self._db.transact(work)
        except BaseException:
            self._totals.pop(caller.run, None)
            raise

    def _begin(self, connection: sa.Connection, caller: Caller, checked: CheckedTask, wanted: Reservation) -> int:
        hold(connection, "tasks", caller.run)
        known = None if self._db.shared else self._totals.get(caller.run)
        tasks, used = known or connection.execute(_TOTALS, {"of_run": caller.run}).one()
        if tasks >= wanted.limit:
            raise TooManyTasks
        if used + wanted.size > wanted.max_bytes:
            raise TooManyBytes
        values = {
            "run": caller.run,
            "attempt": caller.attempt,
            "user": caller.user,
            "job": checked.job,
            "try": checked.try_,
            "intent": wanted.intent,
            "phase": "creating",
            "capability": wanted.capability,
            "key_fingerprint": wanted.key_fingerprint,
            "inputs": sorted({right(f) for f in checked.archive if f is not None}),
            "outputs": wanted.files,
            "created_at": time.time(),
            "bytes": wanted.size,
        }
        key = connection.execute(_INSERT, values).inserted_primary_key
        assert key is not None
        if not self._db.shared:
            if len(self._totals) >= MAX_TOTALS:
                self._totals.clear()
            self._totals[caller.run] = tasks + 1, used + wanted.size
        return int(key[0])

    async def created(self, number: int, tes_id: str, also: Callable[[sa.Connection], object] = lambda _: None) -> bool:
        """Whether the trail leads to this task. It does not where somebody gave the trail up meanwhile, or found
        another task at its end. `also` is done in the same transaction where it does.
        """

        def work(connection: sa.Connection) -> bool:
            mine = connection.execute(_CREATED, {"of_number": number, "of_id": tes_id}).rowcount == 1
            if mine:
                also(connection)
            return mine

        return await self._db.transact(work)

    async def sent(self, number: int, creation: Awaitable[str]) -> str:
        """The task's id at the TES, as `creation` says it; where there is surely none, the trail is dropped.
        ProblemError, TesAway.
        """
        try:
            return await creation
        except ProblemError:
            await self.drop(number)
            raise
        except TesAway as away:
            if not away.maybe_done:
                await self.drop(number)
            raise

    async def drop(self, number: int) -> None:
        """The TES did not take it: the capability dies."""

        def work(connection: sa.Connection) -> None:
            values = {"phase": "refused", "capability": None}
            refused = sa.update(db.tasks).where(t.number == number).values(**values)
            connection.execute(refused)
            self._totals.clear()  # counted anew by whoever begins next

        await self._db.transact(work)

    async def by_number(self, number: int) -> Known | None:
        return await self._one(sa.select(db.tasks).where(t.number == number))

    async def ended(self, states: dict[str, str]) -> None:
        """Final states seen, by TES id: their capabilities die. Only what is new is written."""
        async with self._db.write() as connection:
            for tes_id, state in states.items():
                await connection.execute(
                    sa.update(db.tasks)
                    .where(t.tes_id == tes_id, t.ended.is_(None))
                    .values(ended=state, capability=None)
                )

    async def latest(self, run: str, job: str, try_: str) -> Known | None:
        return await self._one(_LATEST, {"of_run": run, "of_job": job, "of_try": try_})

    async def by_tes_id(self, tes_id: str) -> Known | None:
        """A run's task; none of the node's own, which no run sees."""
        return await self._one(sa.select(db.tasks).where(t.tes_id == tes_id, t.job.not_like(f"{OWN_JOB}%")))

    async def by_capability(self, secret: str) -> Known | None:
        return await self._one(sa.select(db.tasks).where(t.capability == sha256_hex(secret.encode())))

    async def _one(self, query: sa.Select[Any], given: dict[str, str] | None = None) -> Known | None:
        row = await self._db.look(lambda connection: connection.execute(query, given).first())
        return _known(row) if row else None

    async def of_run(self, run: str, tes_ids: Iterable[str]) -> dict[str, TaskTrail]:
        """Those of `tes_ids` that are the run's, by TES id."""
        ids = list(tes_ids)
        given = {"ids": ids if self._db.shared else json.dumps(ids)}
        rows = await self._db.look(lambda connection: connection.execute(_THESE[self._db.shared], given).all())
        return {tes_id: TaskTrail(number, ended or "") for tes_id, number, ended, of in rows if of == run}

    async def unfinished(self, run: str, *, phase: str, attempt: int | None = None) -> list[Known]:
        """The run's tasks in `phase` whose end was not seen; of `attempt` and those before it, where given."""
        query = sa.select(db.tasks).where(t.run == run, t.phase == phase, t.ended.is_(None))
        if attempt is not None:
            query = query.where(t.attempt <= attempt)
        rows = await self._db.look(lambda connection: connection.execute(query.order_by(t.number)).all())
        return [_known(row) for row in rows]

    async def end_capabilities(self, run: str, attempt: int) -> None:
        async with self._db.write() as connection:
            await connection.execute(
                sa.update(db.tasks).where(t.run == run, t.attempt <= attempt).values(capability=None)
            )

    async def deny(self, task: int, denial: Denial) -> None:
        async with self._db.write() as connection:
            count = sa.select(sa.func.count()).select_from(db.denials).where(db.denials.c.task == task)
            if (await connection.execute(count)).scalar_one() >= 100:  # a task that asks for ever fills no disk
                return
            values = {
                "time": time.time(),
                "error_class": denial.error_class,
                "dataset": denial.dataset,
                "reason": redact(denial.reason, 500),
            }
            await connection.execute(db.denials.insert().values(task=task, **values))

    async def denials(self, tasks: Iterable[int]) -> dict[int, Denial]:
        """The last denial of each task that had one."""
        ids, found = list(tasks), {}
        async with self._db.read() as connection:
            for start in range(0, len(ids), CHUNK):
                query = (
                    sa.select(db.denials)
                    .where(db.denials.c.task.in_(ids[start : start + CHUNK]))
                    .order_by(db.denials.c.number)
                )
                for row in await connection.execute(query):
                    found[row.task] = Denial(row.error_class, row.dataset, row.reason)
        return found
