"""A database that is away is said as such: 503 with what to do, never 500, and a wrong statement is not mistaken for
it.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import sqlalchemy as sa
from fastapi import FastAPI
from fastapi.testclient import TestClient

from gdi.kit import server
from token_broker.db.store import BrokerDatabase, DatabaseAwayError


async def test_a_database_that_cannot_be_opened_is_away(tmp_path: Path) -> None:
    store = BrokerDatabase.open(f"sqlite+aiosqlite:///{tmp_path}/db/broker.db")
    (tmp_path / "db").rmdir()
    with pytest.raises(DatabaseAwayError):
        async with store.read():
            pass
    with pytest.raises(DatabaseAwayError):
        async with store.write():
            pass
    (tmp_path / "db").mkdir()
    async with store.write() as c:
        await c.execute(sa.text("CREATE TABLE t (x TEXT)"))
    await store.close()


async def test_a_full_disk_is_away_and_a_wrong_statement_is_not(tmp_path: Path) -> None:
    store = BrokerDatabase.open(f"sqlite+aiosqlite:///{tmp_path}/broker.db")
    async with store.write() as c:
        await c.execute(sa.text("CREATE TABLE t (x TEXT)"))
    with pytest.raises(DatabaseAwayError):
        async with store.write() as c:
            await c.execute(sa.text("PRAGMA max_page_count = 3"))
            await c.execute(sa.text("INSERT INTO t VALUES (:x)"), {"x": "x" * 100_000})
    with pytest.raises(sa.exc.OperationalError, match="no such table"):
        async with store.read() as c:
            await c.execute(sa.text("SELECT * FROM nowhere"))
    await store.close()


async def test_postgresql_that_refuses_is_away_and_no_password_is_said(caplog: pytest.LogCaptureFixture) -> None:
    store = BrokerDatabase.open("postgresql+asyncpg://broker@127.0.0.1:9/none", "planted-4711")
    app = FastAPI()
    server.install(app)

    @app.get("/ask")
    async def ask() -> None:
        async with store.write() as c:
            await c.execute(sa.text("SELECT 1"))

    answer = TestClient(app, raise_server_exceptions=False).get("/ask")
    assert answer.status_code == 503 and answer.headers["content-type"] == "application/problem+json"
    assert (
        answer.json()["type"] == "urn:gdi:problem:database-unavailable" and "Send it again" in answer.json()["action"]
    )
    assert "planted-4711" not in answer.text + caplog.text and "away: ConnectionRefusedError" in caplog.text
