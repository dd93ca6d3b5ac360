"""The broker's schema by revisions, on SQLite: databases of older commits keep their data, what is wrong is told and
left alone. The same on PostgreSQL: tests/system/test_migrations_postgres.py.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata

from gdi.kit.database import DatabaseAwayError
from gdi.kit.migrations import SchemaError
from token_broker import main
from token_broker.audit import Audit
from token_broker.db import store as db
from token_broker.db.store import BrokerDatabase
from token_broker.runs import jobs

FIXTURES = Path(__file__).parents[2] / "fixtures" / "databases"
RUN = {"id": "r-" + "ab" * 10, "attempt": 2}
OLDER = "a database of before revision 0001"
HEAD = db.SCHEMA.head


def old(folder: Path, commit: str) -> Path:
    """A database file as that commit made it."""
    path = folder / f"{commit}.db"
    with sqlite3.connect(path) as database:
        database.executescript((FIXTURES / f"broker-{commit}.sqlite.sql").read_text())
    database.close()
    return path


def opened(path: Path) -> BrokerDatabase:
    return BrokerDatabase.open(f"sqlite+aiosqlite:///{path}")


async def migrated(path: Path) -> str:
    """What the migration says."""
    store = opened(path)
    try:
        return str(await store.create())
    finally:
        await store.close()


def schema_of(path: Path) -> list[tuple[str, ...]]:
    with sqlite3.connect(path) as database:
        return database.execute("SELECT type, name, sql FROM sqlite_master ORDER BY name").fetchall()


async def test_the_migrated_schema_is_that_of_the_tables(tmp_path: Path) -> None:
    store = opened(tmp_path / "new.db")
    assert str(await store.create()) == f"from an empty database to {HEAD}"
    assert str(await store.create()) == f"already at {HEAD}"
    async with store.read() as c:
        assert await c.run_sync(lambda s: compare_metadata(db.SCHEMA.context(s), db.meta)) == []
    await store.close()


@pytest.mark.parametrize(
    ("commit", "before", "listed"),
    [("f3993a8", OLDER, 0), ("e175df6", OLDER, 2), ("abfb968", "an unnumbered revision 0001", 2)],
)
async def test_a_database_of_an_older_commit_is_upgraded_with_its_data(
    tmp_path: Path, commit: str, before: str, listed: int
) -> None:
    store = opened(old(tmp_path, commit))
    assert str(await store.create()) == f"from {before} to {HEAD}"
    assert str(await store.create()) == f"already at {HEAD}"
    async with store.read() as c:
        assert await c.run_sync(lambda s: compare_metadata(db.SCHEMA.context(s), db.meta)) == []
        assert (await c.execute(sa.select(db.grants.c.label, db.grants.c.datasets))).one() == ("Größe 𝔘", ["DS-A"])
        assert (await c.execute(sa.select(db.tickets.c.used_run))).scalars().all() == [RUN["id"]]
        assert (await c.execute(sa.select(db.runs.c.event_count))).scalar_one() == 7
        states = (await c.execute(sa.select(db.jobs.c.job, db.jobs.c.state).order_by(db.jobs.c.job))).all()
        assert states == [("j1", "done"), ("j2", "failed")]
        page = await jobs.page(c, RUN, 0, 10)  # type: ignore[arg-type]  # a row of runs: two of its columns
        assert len(page.jobs) == listed
        if listed:
            first, second = page.jobs
            assert (first.job, first.task, first.wildcards, first.state) == ("j1", "t1", {"part": "7"}, "done")
            assert (second.job, second.message, second.rule) == ("j2", "line 4 is no number", "count")
            assert page.next_after == 6
    (entry,) = (await Audit(store).page(run=None, owner=None)).entries
    assert entry.action == "grant-created" and entry.visa == {"by": "dac"}
    await store.close()


@pytest.mark.parametrize("commit", ["f3993a8", "abfb968"])
@pytest.mark.parametrize(
    ("change", "told"),
    [
        ("ALTER TABLE runs DROP COLUMN failing", "the table runs lacks the column failing"),
        ("ALTER TABLE runs ADD COLUMN colour TEXT", "the table runs has a column colour too many"),
        ("DROP TABLE tickets", "it lacks the table tickets"),
        ("DROP INDEX ix_grants_owner", "the table grants lacks the index ix_grants_owner"),
    ],
)
async def test_a_database_that_is_not_what_an_older_version_made_is_told_and_left_alone(
    tmp_path: Path, commit: str, change: str, told: str
) -> None:
    path = old(tmp_path, commit)
    with sqlite3.connect(path) as database:
        database.execute(change)
    before = schema_of(path)
    with pytest.raises(SchemaError, match=told) as error:
        await migrated(path)
    assert "Nothing was changed" in str(error.value) and "restore a backup" in str(error.value)
    assert schema_of(path) == before


async def test_a_missing_column_is_found_at_the_newest_revision_too(tmp_path: Path) -> None:
    path = tmp_path / "b.db"
    await migrated(path)
    with sqlite3.connect(path) as database:
        database.execute("ALTER TABLE jobs DROP COLUMN exit_code")
    with pytest.raises(SchemaError, match=f"not what revision {HEAD} .* the table jobs lacks the column exit_code"):
        await migrated(path)


async def test_a_database_of_a_newer_version_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "b.db"
    await migrated(path)
    with sqlite3.connect(path) as database:
        database.execute("UPDATE alembic_version_token_broker SET version_num = '9999'")
    with pytest.raises(SchemaError, match="revision 9999, which this version of token-broker does not know"):
        await migrated(path)
    ended = command(path, "migrate")
    assert ended.returncode == 2 and "Start that version again, or restore the backup" in ended.stderr


async def test_two_migrations_at_once_are_one(tmp_path: Path) -> None:
    path = old(tmp_path, "e175df6")
    outcomes = await asyncio.gather(*(migrated(path) for _ in range(4)))
    assert sorted(outcomes) == [f"already at {HEAD}"] * 3 + [f"from {OLDER} to {HEAD}"]


def command(path: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {"PATH": os.environ["PATH"], "TOKEN_BROKER_DATABASE_URL": f"sqlite+aiosqlite:///{path}"}
    program = [sys.executable, "-m", "token_broker.main", *arguments]
    return subprocess.run(program, env=environment, capture_output=True, text=True, timeout=240)


def test_the_command_says_from_where_to_where_it_went(tmp_path: Path) -> None:
    path = old(tmp_path, "abfb968")
    for said in (f"from an unnumbered revision 0001 to {HEAD}", f"already at {HEAD}"):
        ended = command(path, "migrate")
        assert ended.returncode == 0 and said in ended.stderr, ended.stderr


def test_the_command_waits_for_a_database_that_is_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TOKEN_BROKER_DATABASE_URL", f"sqlite+aiosqlite:///{tmp_path}/b.db")
    tries = 0
    make = BrokerDatabase.create

    async def create(store: BrokerDatabase) -> object:
        nonlocal tries
        tries += 1
        if tries <= 2:
            raise DatabaseAwayError("broker", OSError("refused"))
        return await make(store)

    monkeypatch.setattr(BrokerDatabase, "create", create)
    monkeypatch.setattr("gdi.kit.migrations.REACH_PAUSE", 0)
    assert asyncio.run(main.migrate()) == 0 and tries == 3
    assert "waiting for the database" in capsys.readouterr().err
