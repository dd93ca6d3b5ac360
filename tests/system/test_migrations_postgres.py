"""Schemas by revisions on PostgreSQL: databases of older commits, many migrations at once, and brokers of the revision
before that run on until they are replaced.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

import asyncpg
import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata

from gdi.kit.migrations import SchemaError
from tests.support.postgres_kit import Postgres
from token_broker.db import store as db
from token_broker.db.migrations import first
from token_broker.db.store import BrokerDatabase
from token_broker.db.upsert import upsert
from token_broker.runs import jobs

pytestmark = [pytest.mark.system, pytest.mark.xdist_group("system-postgres")]

FIXTURES = Path(__file__).parents[1] / "fixtures" / "databases"
RUN = {"id": "r-" + "ab" * 10, "attempt": 2}
KEY = {"run_id": RUN["id"], "attempt": 2, "node": "node-a"}
OLDER = "a database of before revision 0001"
HEAD = db.SCHEMA.head


async def run_script(postgres: Postgres, name: str, script: str) -> None:
    connection = await asyncpg.connect(
        host="127.0.0.1", port=postgres.port, user="gdi", password=postgres.password, database=name
    )
    try:
        await connection.execute(script)
    finally:
        await connection.close()


async def old(postgres: Postgres, commit: str) -> str:
    """A database as that commit made it; its name."""
    name = await asyncio.to_thread(postgres.database)
    await run_script(postgres, name, (FIXTURES / f"broker-{commit}.postgresql.sql").read_text())
    return name


def opened(postgres: Postgres, name: str) -> BrokerDatabase:
    return BrokerDatabase.open(f"postgresql+asyncpg://gdi@127.0.0.1:{postgres.port}/{name}", postgres.password)


@pytest.mark.parametrize(
    ("commit", "before", "listed"),
    [
        ("f3993a8", OLDER, 0),
        ("e175df6", OLDER, 2),
        ("abfb968", "an unnumbered revision 0001", 2),
        ("", "an empty database", 0),
    ],
)
async def test_a_database_is_upgraded_with_its_data(postgres: Postgres, commit: str, before: str, listed: int) -> None:
    name = await old(postgres, commit) if commit else await asyncio.to_thread(postgres.database)
    store = opened(postgres, name)
    assert str(await store.create()) == f"from {before} to {HEAD}"
    assert str(await store.create()) == f"already at {HEAD}"
    async with store.read() as c:
        assert await c.run_sync(lambda s: compare_metadata(db.SCHEMA.context(s), db.meta)) == []
        page = await jobs.page(c, RUN, 0, 10)  # type: ignore[arg-type]  # a row of runs: two of its columns
        assert [job.job for job in page.jobs] == ["j1", "j2"][:listed]
        if commit:
            assert (await c.execute(sa.select(db.grants.c.label))).scalar_one() == "Größe 𝔘"
            assert (await c.execute(sa.select(db.jobs.c.state).order_by(db.jobs.c.job))).scalars().all() == [
                "done",
                "failed",
            ]
    await store.close()


async def test_migrations_at_once_are_one(postgres: Postgres) -> None:
    name = await old(postgres, "e175df6")
    stores = [opened(postgres, name) for _ in range(6)]
    outcomes = [str(o) for o in await asyncio.gather(*(s.create() for s in stores))]
    assert sorted(outcomes) == [f"already at {HEAD}"] * 5 + [f"from {OLDER} to {HEAD}"]
    await asyncio.gather(*(s.close() for s in stores))


async def test_a_missing_column_and_a_newer_revision_are_told_and_left_alone(postgres: Postgres) -> None:
    name = await old(postgres, "f3993a8")
    await run_script(postgres, name, "ALTER TABLE runs DROP COLUMN failing")
    store = opened(postgres, name)
    with pytest.raises(SchemaError, match="the table runs lacks the column failing"):
        await store.create()
    async with store.read() as c:
        tables = await c.run_sync(lambda s: set(sa.inspect(s).get_table_names()))
    assert "alembic_version_token_broker" not in tables and "schedules" not in tables
    await run_script(postgres, name, "ALTER TABLE runs ADD COLUMN failing JSON")
    await store.create()
    await run_script(postgres, name, "UPDATE alembic_version_token_broker SET version_num = '9999'")
    with pytest.raises(SchemaError, match="revision 9999, which this version of token-broker does not know"):
        await store.create()
    await store.close()


async def test_a_migration_gives_way_to_requests_under_way(postgres: Postgres) -> None:
    """A request of an older broker holds one table and wants the other: it ends well, and the migration follows."""
    name = await old(postgres, "abfb968")
    store, migrating = opened(postgres, name), opened(postgres, name)
    async with store.write() as c:
        await c.execute(sa.update(db.jobs).where(db.jobs.c.job == "j1").values(state="done"))
        migration = asyncio.create_task(migrating.create())
        await asyncio.sleep(1.5)  # longer than PostgreSQL waits before it looks for a deadlock
        await c.execute(sa.update(first.meta.tables["job_details"]).values(tries=1))
    assert str(await migration) == f"from an unnumbered revision 0001 to {HEAD}"
    async with store.read() as c:
        assert (await c.execute(sa.select(db.jobs.c.tries))).scalars().all() == [1, 1]
    await asyncio.gather(store.close(), migrating.close())


async def test_brokers_of_the_revision_before_serve_on_after_the_migration(postgres: Postgres) -> None:
    """What they read and write of `job_details` is in `jobs`, for both."""
    store = opened(postgres, await old(postgres, "abfb968"))
    await store.create()
    old_jobs, details = first.meta.tables["jobs"], first.meta.tables["job_details"]
    row = {**KEY, "job": "j3", "rule": "merge", "state": "submitted", "started_at": 1.0, "ended_at": None}
    known = {**KEY, "job": "j3", "number": 8, "task": "t3", "message": None}
    async with store.write() as c:  # as one of them starts
        await c.run_sync(first.meta.create_all)
    async with store.write() as c:  # as revision 0001 wrote an event: the job, then what the list shows of it
        await upsert(c, old_jobs, [row], replace=("state", "ended_at"), keep=("started_at", "rule"))
        await upsert(c, details, [known], replace=("number",), newer=("task", "message"))
        await upsert(c, details, [{**known, "number": 9, "task": None}], replace=("number",), newer=("task", "message"))
    same = sa.and_(*(old_jobs.c[n] == details.c[n] for n in ("run_id", "attempt", "node", "job")))
    async with store.read() as c:
        page = await jobs.page(c, RUN, 6, 10)  # type: ignore[arg-type]
        assert [(j.job, j.rule, j.state, j.task) for j in page.jobs] == [("j3", "merge", "submitted", "t3")]
        assert page.next_after == 9
        seen = await c.execute(sa.select(old_jobs.c.job, details.c.number).join_from(details, old_jobs, same))
        assert sorted(seen.all()) == [("j1", 5), ("j2", 6), ("j3", 9)]
    await store.close()


async def test_a_dump_of_an_older_revision_is_restored_and_upgraded_again(postgres: Postgres) -> None:
    """As docs/operate.md says: the database is emptied first, of the view too. Airflow's own number is not ours."""
    name = await old(postgres, "abfb968")
    store = opened(postgres, name)
    await store.create()
    await run_script(postgres, name, "DROP SCHEMA public CASCADE; CREATE SCHEMA public")
    await run_script(postgres, name, (FIXTURES / "broker-e175df6.postgresql.sql").read_text())
    airflow = "CREATE TABLE alembic_version (version_num text); INSERT INTO alembic_version VALUES ('c0ffee')"
    await run_script(postgres, name, airflow)
    assert str(await store.create()) == f"from {OLDER} to {HEAD}"
    await store.close()
