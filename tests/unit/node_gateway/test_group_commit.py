"""Transactions that are committed together fail alone, and what a run may have is exact however many come at once."""

from __future__ import annotations

import asyncio

import pytest
import sqlalchemy as sa

from gdi.kit.database import DatabaseAwayError
from node_gateway.audit import Audit, AuditEvent, append
from node_gateway.auth import Caller
from node_gateway.db import store as db
from node_gateway.db.group_commit import Work
from node_gateway.db.store import GatewayDatabase
from node_gateway.tasks.check import CheckedTask
from node_gateway.tasks.store import Known, Reservation, TaskStore, TooManyBytes, TooManyTasks

RUN = "r-" + "ab" * 10
CALLER = Caller("alice", RUN, "n", 1, "w", "sha256:0", frozenset(), frozenset({"tasks"}), 1, "pod-a")


def written(name: str) -> Work[int]:
    return lambda connection: connection.execute(db.emptied.insert().values(run=name, attempt=1)).rowcount


async def runs(database: GatewayDatabase) -> set[str]:
    async with database.read() as connection:
        return set((await connection.execute(sa.select(db.emptied.c.run))).scalars())


async def test_what_fails_takes_none_of_the_others_with_it(database: GatewayDatabase) -> None:
    def bad(connection: sa.Connection) -> int:
        written("half")(connection)
        raise ValueError("no")

    works = [*(written(f"r{n}") for n in range(20)), bad, written("same"), written("same")]
    outcomes = await asyncio.gather(*(database.transact(work) for work in works), return_exceptions=True)
    assert outcomes[:20] == [1] * 20
    assert isinstance(outcomes[20], ValueError) and isinstance(outcomes[22], sa.exc.IntegrityError)
    assert await runs(database) == {f"r{n}" for n in range(20)} | {"same"}


async def test_who_looks_sees_what_was_committed_and_waits_for_no_writer(database: GatewayDatabase) -> None:
    def seen(connection: sa.Connection) -> set[str]:
        return set(connection.execute(sa.select(db.emptied.c.run)).scalars())

    await database.transact(written("a"))
    assert await database.look(seen) == {"a"}
    async with database.write() as connection:
        await connection.execute(db.emptied.insert().values(run="b", attempt=1))
        assert await asyncio.wait_for(database.look(seen), 60) == {"a"}
    assert await database.look(seen) == {"a", "b"}


async def test_what_is_cancelled_stops_nobody(database: GatewayDatabase) -> None:
    tasks = [asyncio.create_task(database.transact(written(f"r{n}"))) for n in range(10)]
    await asyncio.sleep(0)
    tasks[0].cancel()
    tasks[5].cancel()
    outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    assert sum(isinstance(one, asyncio.CancelledError) for one in outcomes) == 2
    assert {f"r{n}" for n in (1, 2, 3, 4, 6, 7, 8, 9)} <= await runs(database)


async def test_a_full_disk_is_told_to_each_and_passes(database: GatewayDatabase) -> None:
    def bound(connection: sa.Connection, pages: int) -> None:
        connection.exec_driver_sql(f"PRAGMA max_page_count={pages}")

    def large(connection: sa.Connection) -> None:
        connection.execute(db.audit.insert().values(number=99, time=1.0, line="x" * 2**20, previous="", hash=""))

    await database.transact(lambda c: bound(c, 1))  # as many as there are: none more
    outcomes = await asyncio.gather(database.transact(written("a")), database.transact(large), return_exceptions=True)
    assert any(isinstance(one, DatabaseAwayError) for one in outcomes)
    await database.transact(lambda c: bound(c, 2**30))
    await database.transact(written("b"))
    assert "b" in await runs(database)


def checked(job: str) -> CheckedTask:
    return CheckedTask(job, "1", (), (), ())


def wanted(job: str, *, limit: int = 10, size: int = 1, most: int = 10**6) -> Reservation:
    return Reservation(f"intent-{job}", None, "4" * 64, [], size, limit, most)


async def begun(store: TaskStore, job: str, **more: int) -> Known | int:
    return await store.latest_or_begun(CALLER, checked(job), wanted(job, **more), lambda _: None)


async def test_a_run_has_no_more_than_it_may_however_many_come_at_once(database: GatewayDatabase) -> None:
    store = TaskStore(database)
    outcomes = await asyncio.gather(*(begun(store, f"j{n}") for n in range(30)), return_exceptions=True)
    numbers = [one for one in outcomes if isinstance(one, int)]
    assert len(numbers) == 10 and sum(isinstance(one, TooManyTasks) for one in outcomes) == 20
    await store.drop(numbers[0])
    assert isinstance(await begun(store, "k1"), int), "what the TES refused leaves its place"
    with pytest.raises(TooManyTasks):
        await begun(store, "k2")
    with pytest.raises(TooManyTasks):
        await begun(TaskStore(database), "k3")  # after a restart
    with pytest.raises(TooManyBytes):
        await begun(store, "k4", limit=99, size=991, most=1000)
    assert isinstance(await begun(store, "k4", limit=99, size=990, most=1000), int)


async def test_what_failed_to_be_written_takes_no_place(database: GatewayDatabase) -> None:
    store = TaskStore(database)
    await begun(store, "j1", limit=2)
    for _ in range(3):
        with pytest.raises(sa.exc.IntegrityError):
            await store.begin(CALLER, checked("j2"), wanted("j1", limit=2))  # an intent that is there
    assert isinstance(await begun(store, "j2", limit=2), int)


async def test_who_may_not_begin_leaves_no_trail_and_who_began_is_known(database: GatewayDatabase) -> None:
    store = TaskStore(database)

    def refuse(_: sa.Connection) -> None:
        raise PermissionError

    with pytest.raises(PermissionError):
        await store.latest_or_begun(CALLER, checked("j1"), wanted("j1"), refuse)
    first = await begun(store, "j1")
    again = await begun(store, "j1")
    assert isinstance(again, Known) and again.number == first and again.phase == "creating"


async def test_a_task_and_its_line_of_the_audit_are_written_together_or_not_at_all(database: GatewayDatabase) -> None:
    store, audit = TaskStore(database), Audit(database)
    number = await begun(store, "j1")
    assert isinstance(number, int)

    def broken(_: sa.Connection) -> None:
        raise OSError

    with pytest.raises(OSError):
        await store.created(number, "t1", broken)
    known = await store.by_number(number)
    assert known is not None and known.phase == "creating"
    event = AuditEvent("task-created", True, "alice", RUN, 1, "t1")
    assert await store.created(number, "t1", lambda connection: append(connection, [event]))
    assert not await store.created(number, "t2", lambda connection: append(connection, [event])), "it leads to t1"
    await asyncio.gather(*(audit.record(AuditEvent("x", True, "alice", what=str(n))) for n in range(50)))
    assert await audit.verify() == 51
