"""One writing request at a time on SQLite: what Airflow's audit log does on the event loop, and the middleware that
keeps it from standing still.
"""

import asyncio
import sqlite3
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import httpx
import pytest
from fastapi import Depends, FastAPI, Request

from gdi_operators.sqlite_write_lock import SqliteWriteLock

WRITTEN = threading.Event()  # a request has written and not yet committed
MEANWHILE = threading.Event()  # the others have come


def airflow_like(database: Path, *, patience: float = 30) -> FastAPI:
    """An audit entry on the event loop, a write in a thread, and the commit when the loop comes by again: as Airflow's
    api-server has them. The first write ends once the others have come. `patience`: seconds for a locked database.
    """
    app = FastAPI()

    def connect() -> sqlite3.Connection:
        return sqlite3.connect(database, timeout=patience, check_same_thread=False)

    def session() -> Any:
        connection = connect()
        try:
            yield connection
            connection.commit()
        finally:
            connection.close()

    async def audit(request: Request) -> None:
        with connect() as connection:
            connection.execute("INSERT INTO log VALUES (?)", [(await request.body()).decode()])

    @app.post("/runs", dependencies=[Depends(audit)])
    def start(session: Annotated[sqlite3.Connection, Depends(session, scope="function")]) -> str:
        session.execute("INSERT INTO runs VALUES (1)")
        WRITTEN.set()
        assert MEANWHILE.wait(60)
        return "started"

    return app


def starts(app: Callable[..., Any]) -> list[int]:
    """The codes of five starts, four of which come while the first has written."""
    arrived = 0

    async def counting(scope: Any, receive: Any, send: Any) -> None:
        nonlocal arrived
        arrived += 1
        if arrived == 5:
            MEANWHILE.set()
        await app(scope, receive, send)

    async def post() -> list[int]:
        WRITTEN.clear()
        MEANWHILE.clear()
        async with httpx.AsyncClient(
            transport=httpx.ASGITransport(app=counting, raise_app_exceptions=False), base_url="http://airflow"
        ) as http:
            first = asyncio.create_task(http.post("/runs", content="0"))
            assert await asyncio.to_thread(WRITTEN.wait, 60)
            return [
                a.status_code
                for a in await asyncio.gather(first, *(http.post("/runs", content=str(n)) for n in range(1, 5)))
            ]

    return asyncio.run(post())


@pytest.fixture
def database(tmp_path: Path) -> Path:
    with sqlite3.connect(tmp_path / "airflow.db") as connection:
        connection.executescript("PRAGMA journal_mode=WAL; CREATE TABLE log (body); CREATE TABLE runs (n);")
    return tmp_path / "airflow.db"


def test_without_turns_two_starts_at_once_hold_each_other_up(database: Path) -> None:
    assert 500 in starts(airflow_like(database, patience=0.1))


def test_with_turns_all_starts_succeed_and_are_in_the_audit_log(database: Path) -> None:
    assert starts(SqliteWriteLock(airflow_like(database))) == [200] * 5
    with sqlite3.connect(database) as connection:
        assert sorted(connection.execute("SELECT body FROM log")) == [(str(n),) for n in range(5)]
        assert connection.execute("SELECT count(*) FROM runs").fetchone() == (5,)


def scope(method: str) -> dict[str, Any]:
    return {"type": "http", "method": method, "path": "/", "headers": []}


def test_who_sends_its_body_slowly_or_reads_its_answer_slowly_holds_nobody_up() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        assert await receive() == {"type": "http.request", "body": b"x", "more_body": False}
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    async def story() -> list[str]:
        order: list[str] = []
        late, slow = asyncio.Event(), asyncio.Event()

        async def request(name: str, *, body: asyncio.Event | None = None, reader: asyncio.Event | None = None) -> None:
            async def receive() -> dict[str, Any]:
                await body.wait() if body else None
                return {"type": "http.request", "body": b"x", "more_body": False}

            async def send(message: dict[str, Any]) -> None:
                await reader.wait() if reader else None
                order.append(f"{name} {message['type']}")

            await middleware(scope("POST"), receive, send)

        middleware = SqliteWriteLock(app)
        stuck = [
            asyncio.create_task(request("slow sender", body=late)),
            asyncio.create_task(request("slow reader", reader=slow)),
        ]
        await asyncio.sleep(0)
        await asyncio.wait_for(request("quick"), 60)
        late.set(), slow.set()
        await asyncio.wait_for(asyncio.gather(*stuck), 60)
        return order

    assert asyncio.run(story())[:2] == ["quick http.response.start", "quick http.response.body"]


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_reads_take_no_turn(method: str) -> None:
    async def story() -> None:
        inside = asyncio.Barrier(3)

        async def app(scope: Any, receive: Any, send: Any) -> None:
            await inside.wait()

        middleware = SqliteWriteLock(app)
        await asyncio.wait_for(asyncio.gather(*(middleware(scope(method), None, None) for _ in range(3))), 60)  # type: ignore[arg-type]

    asyncio.run(story())


def test_a_request_that_fails_gives_its_turn_back() -> None:
    async def story() -> None:
        async def app(scope: Any, receive: Any, send: Any) -> None:
            raise ValueError

        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": b"", "more_body": False}

        middleware = SqliteWriteLock(app)
        for _ in range(2):
            with pytest.raises(ValueError):
                await asyncio.wait_for(middleware(scope("DELETE"), receive, None), 60)  # type: ignore[arg-type]

    asyncio.run(story())
