"""A server's SQL database: SQLite for one process, PostgreSQL for many. Connections by purpose, and one error for a
database that is away.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, ClassVar, Self

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from gdi.kit.problem import ProblemError

log = logging.getLogger(__name__)
AWAY_SQLITE = ("SQLITE_BUSY", "SQLITE_LOCKED", "SQLITE_FULL", "SQLITE_IOERR", "SQLITE_CANTOPEN", "SQLITE_READONLY")
AWAY_SQLSTATE = ("08", "53", "57P")  # connection lost, out of resources, shutting down
# PostgreSQL asks a silent client's machine, and after 60 s without an answer ends its session, whose locks and
# transaction go with it: a machine that vanished holds nothing up for hours (its manual, 19.3.2).
KEEPALIVE = {"tcp_keepalives_idle": "30", "tcp_keepalives_interval": "10", "tcp_keepalives_count": "3"}
PRAGMAS = ("busy_timeout=15000", "journal_mode=WAL", "synchronous=NORMAL", "foreign_keys=ON")


class DatabaseAwayError(ProblemError):
    """The database cannot be asked: the caller may send the same request again (every call of the APIs may be
    repeated).
    """

    def __init__(self, owner: str, error: BaseException) -> None:
        super().__init__(
            503,
            "database-unavailable",
            f"The {owner}'s database is away, so the request was not completed.",
            action=(
                f"Send it again in some seconds; if that stays, tell the operator: /readyz says what the {owner} lacks."
            ),
        )
        log.warning("the database is away: %s", type(getattr(error, "orig", None) or error).__name__)


def is_away(error: DBAPIError) -> bool:
    """Whether the database, not the statement, is at fault."""
    if error.connection_invalidated:
        return True
    return str(getattr(error.orig, "sqlite_errorname", "")).startswith(AWAY_SQLITE) or sqlstate(error).startswith(
        AWAY_SQLSTATE
    )


def sqlstate(error: DBAPIError) -> str:
    """PostgreSQL's five characters for the error (its manual's appendix A); empty elsewhere."""
    return str(getattr(error.orig, "sqlstate", None) or "")


def advisory_key(*parts: str) -> int:
    """The 64 bits under which PostgreSQL knows a lock of this name."""
    return int.from_bytes(hashlib.sha256("\0".join(parts).encode()).digest()[:8], signed=True)


def insert(connection: AsyncConnection, table: sa.Table) -> postgresql.Insert | sqlite.Insert:
    """The dialect's INSERT, which has `on_conflict_do_update` and `on_conflict_do_nothing`."""
    return postgresql.insert(table) if connection.dialect.name == "postgresql" else sqlite.insert(table)


async def exclusive(connection: AsyncConnection, *name: str) -> None:
    """Waits until no other transaction of this name is open; until the end of this one there is none. For `write()`:
    on SQLite every writing transaction is alone anyway.
    """
    if connection.dialect.name == "postgresql":
        await connection.run_sync(hold, *name)


def hold(connection: sa.Connection, *name: str) -> None:
    """`exclusive` without an event loop."""
    if connection.dialect.name == "postgresql":
        connection.execute(sa.select(sa.func.pg_advisory_xact_lock(advisory_key(*name))))


def tune(engine: sa.Engine, cache_kib: int, *, writes: bool = False) -> None:
    """SQLite as every server here has it. A transaction takes the write lock at once where its connection says so, or
    with `writes`.
    """

    @sa.event.listens_for(engine, "connect")
    def _on_connect(connection: Any, _: Any) -> None:
        connection.isolation_level = None  # SQLAlchemy's recipe: we say BEGIN ourselves
        cursor = connection.cursor()
        for pragma in (*PRAGMAS, f"cache_size=-{cache_kib}"):
            cursor.execute(f"PRAGMA {pragma}")
        cursor.close()

    @sa.event.listens_for(engine, "begin")
    def _on_begin(connection: sa.Connection) -> None:
        at_once = writes or connection.get_execution_options().get("write")
        connection.exec_driver_sql("BEGIN IMMEDIATE" if at_once else "BEGIN")


async def _give_back(connection: AsyncConnection) -> None:
    """To the pool. Where its other side is gone, that is no more news: an error under way is the one to tell."""
    try:
        await connection.close()
    except DBAPIError:
        await connection.invalidate()
        await connection.close()


class Database:
    """Connections by purpose: `read()`, and `write()`, one transaction that on SQLite takes the write lock at once (no
    upgrade dead-lock).
    """

    owner: ClassVar[str] = "server"  # for messages
    pool: ClassVar[dict[str, Any]] = {}  # SQLAlchemy's arguments of the pool
    cache_kib: ClassVar[int] = 2000  # of SQLite's pages, for each connection of the pool: SQLite's own default

    def __init__(self, engine: AsyncEngine) -> None:
        self.engine = engine

    @classmethod
    def open(cls, url: str, password: str | None = None) -> Self:
        """`password` (from a file) is put into the URL in memory only; SQLAlchemy hides it in every repr."""
        return cls(cls.make_engine(url, password))

    @classmethod
    def make_engine(cls, url: str, password: str | None = None) -> AsyncEngine:
        """`sqlite+aiosqlite:///path` or `postgresql+asyncpg://user@host/name`; connects to nothing yet."""
        parsed = sa.make_url(url)
        if password is not None:
            parsed = parsed.set(password=password)
        if parsed.get_backend_name() != "sqlite":
            arguments = {"server_settings": KEEPALIVE} if parsed.get_driver_name() == "asyncpg" else {}
            return create_async_engine(
                parsed, pool_pre_ping=True, hide_parameters=True, connect_args=arguments, **cls.pool
            )
        if parsed.database and parsed.database != ":memory:":
            Path(parsed.database).parent.mkdir(parents=True, exist_ok=True)
        engine = create_async_engine(parsed, hide_parameters=True, **cls.pool)
        tune(engine.sync_engine, cls.cache_kib)
        return engine

    @property
    def shared(self) -> bool:
        """Whether other processes may write to it at the same time."""
        return self.engine.dialect.name == "postgresql"

    @asynccontextmanager
    async def read(self) -> AsyncIterator[AsyncConnection]:
        """DatabaseAwayError where there is none to be had, or it is lost on the way; so with `write`."""
        try:
            connection = await self.engine.connect()
        except Exception as error:  # SQLAlchemy's, the driver's or the operating system's
            raise DatabaseAwayError(self.owner, error) from None
        try:
            yield connection
        except DBAPIError as error:
            if is_away(error):
                raise DatabaseAwayError(self.owner, error) from None
            raise
        finally:
            await _give_back(connection)

    @asynccontextmanager
    async def write(self) -> AsyncIterator[AsyncConnection]:
        async with self.read() as connection:
            await connection.execution_options(write=True)
            async with connection.begin():
                yield connection

    async def close(self) -> None:
        await self.engine.dispose()
