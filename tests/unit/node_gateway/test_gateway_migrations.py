"""The gateway's schema by revisions, on SQLite: databases of older commits keep their data, and the audit stays
append-only. On PostgreSQL: tests/system/test_gateways_postgres.py.
"""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata

from gdi.kit.migrations import SchemaError
from node_gateway.audit import Audit
from node_gateway.auth import Fences
from node_gateway.db import store as db
from node_gateway.db.copy import CopyError, copy_from
from node_gateway.db.store import GatewayDatabase
from node_gateway.release import ledger
from node_gateway.tasks.store import TaskStore

FIXTURES = Path(__file__).parents[2] / "fixtures" / "databases"
RUN = "r-" + "ab" * 10
OLDER = "a database of before revision 0001"
HEAD = db.SCHEMA.head


def old(folder: Path, commit: str) -> Path:
    """A database file as that commit made it."""
    path = folder / f"{commit}.db"
    with sqlite3.connect(path) as database:
        database.executescript((FIXTURES / f"gateway-{commit}.sqlite.sql").read_text())
    database.close()
    return path


def opened(path: Path) -> GatewayDatabase:
    return GatewayDatabase.open(f"sqlite+aiosqlite:///{path}")


async def test_the_migrated_schema_is_that_of_the_tables(tmp_path: Path) -> None:
    database = opened(tmp_path / "new.db")
    assert str(await database.create()) == f"from an empty database to {HEAD}"
    assert str(await database.create()) == f"already at {HEAD}"
    async with database.read() as c:
        assert await c.run_sync(lambda s: compare_metadata(db.SCHEMA.context(s), db.metadata)) == []
    await database.make_durable()
    await database.close()


@pytest.mark.parametrize(
    ("commit", "before"), [("f3993a8", OLDER), ("e175df6", OLDER), ("abfb968", "an unnumbered revision 0001")]
)
async def test_a_database_of_an_older_commit_is_upgraded_with_its_data(
    tmp_path: Path, commit: str, before: str
) -> None:
    database = opened(old(tmp_path, commit))
    assert str(await database.create()) == f"from {before} to {HEAD}"
    async with database.read() as c:
        assert await c.run_sync(lambda s: compare_metadata(db.SCHEMA.context(s), db.metadata)) == []
        states = (await c.execute(sa.select(db.releases.c.state).order_by(db.releases.c.number))).scalars().all()
        assert states == ["published", "awaiting-review"]
        past = await ledger.cohorts(c, {"DS-A", "DS-B"})
        past = await ledger.with_cells(c, past, "allele-counts", ["1:5:A:C", "1:5:A:G"])
        left = {key: [numbers[:2] for numbers in of.values()] for key, of in past.cells.items()}
        assert len(past.cohorts) == 1 and left == {"1:5:A:C": [(40, 200)]}
    fence = await Fences(database).of(RUN)
    assert (fence.attempt, fence.generation, fence.closed) == (2, 1, 1)
    store = TaskStore(database)
    known = await store.by_tes_id("tes-j2")
    assert known is not None and known.inputs == {("DS-A", "j2.vcf.gz.c4gh")} and known.outputs == ("out.json",)
    assert (await store.denials([known.number]))[known.number].error_class == "AccessDenied"
    assert [k.job for k in await store.unfinished(RUN, phase="creating")] == ["j3"]
    assert await Audit(database).verify() == 2
    for statement in ("UPDATE audit SET line = ''", "DELETE FROM audit"):
        with pytest.raises(sa.exc.IntegrityError, match="append-only"):
            async with database.write() as c:
                await c.execute(sa.text(statement))
    await database.close()


async def test_what_left_under_another_name_of_a_variant_is_found_again(tmp_path: Path) -> None:
    """Of before keys were normalised: a contig's other name, alleles that are not trimmed, a symbol, and both names."""
    path = old(tmp_path, "abfb968")
    with sqlite3.connect(path) as connection:
        (numbers,) = connection.execute("SELECT numbers FROM ledger").fetchone()
        names = [("chr1", 7, "AT", "CT"), ("NC_000002.11", 9, "a", "<INS:ME:ALU>"), ("chr1", 5, "A", "C")]
        for chrom, pos, ref, alt in names:
            connection.execute("INSERT INTO ledger VALUES (1, ?, ?, ?, ?, ?, 1)", (chrom, pos, ref, alt, numbers))
    connection.close()
    database = opened(path)
    await database.create()
    async with database.read() as c:
        cells = (await c.execute(sa.select(db.ledger_cells.c.topic, db.ledger_cells.c.key))).all()
    assert sorted(map(tuple, cells)) == [("1:5", "1:5:A:C"), ("1:7", "1:7:A:C"), ("2:9", "2:9:A:<INS:ME:ALU>")]
    await database.close()


async def test_what_is_wrong_is_told_and_left_alone(tmp_path: Path) -> None:
    path = old(tmp_path, "f3993a8")
    with sqlite3.connect(path) as connection:
        connection.execute("ALTER TABLE tasks DROP COLUMN ended")
    database = opened(path)
    with pytest.raises(SchemaError, match="the table tasks lacks the column ended"):
        await database.create()
    await database.close()
    with sqlite3.connect(path) as connection:
        names = {row[0] for row in connection.execute("SELECT name FROM sqlite_master")}
        assert "reviews" not in names and "alembic_version_node_gateway" not in names


async def rows(database: GatewayDatabase) -> dict[str, list[tuple[Any, ...]]]:
    async with database.read() as c:
        return {
            t.name: [tuple(r) for r in await c.execute(sa.select(t).order_by(*t.primary_key.columns))]
            for t in db.metadata.sorted_tables
        }


async def test_a_state_is_copied_whole_and_into_an_empty_database_only(tmp_path: Path) -> None:
    path, target = old(tmp_path, "e175df6"), opened(tmp_path / "new.db")
    await target.create()
    counts = await copy_from(path, target)
    source = opened(path)
    with pytest.raises(RuntimeError, match="another gateway uses"):
        await copy_from(path, target)
    copied = await rows(target)
    assert copied == await rows(source) and counts == {name: len(found) for name, found in copied.items()}
    assert counts["releases"] == 2 and counts["ledger_cells"] and await Audit(target).verify() == counts["audit"]
    await source.close()
    with pytest.raises(CopyError, match="has rows in"):
        await copy_from(path, target)
    with pytest.raises(CopyError, match="There is no file"):
        await copy_from(tmp_path / "missing.db", target)
    assert await rows(target) == copied and not (tmp_path / "missing.db").exists()
    await target.close()


def command(path: Path) -> subprocess.CompletedProcess[str]:
    environment = {"PATH": os.environ["PATH"], "NODE_GATEWAY_DATABASE_URL": f"sqlite+aiosqlite:///{path}"}
    program = [sys.executable, "-m", "node_gateway.main", "migrate"]
    return subprocess.run(program, env=environment, capture_output=True, text=True, timeout=240)


def test_the_command_says_from_where_to_where_it_went_and_refuses_what_is_newer(tmp_path: Path) -> None:
    path = old(tmp_path, "e175df6")
    for sentence in (f"from {OLDER} to {HEAD}", f"already at {HEAD}"):
        ended = command(path)
        assert ended.returncode == 0 and sentence in ended.stderr, ended.stderr
    with sqlite3.connect(path) as database:
        database.execute("UPDATE alembic_version_node_gateway SET version_num = '9999'")
    ended = command(path)
    assert ended.returncode == 1 and "revision 9999, which this version of node-gateway does not know" in ended.stderr
    running = opened(path)
    ended = command(path)
    assert ended.returncode == 1 and "another gateway uses" in ended.stderr
    running._lock = None if running._lock is None else os.close(running._lock)
