"""Named locks that hold among all gateways on one database, also while other servers are talked to."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, ClassVar

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from gdi.kit.database import Database, advisory_key
from gdi.kit.named_lock import Locks, NamedLock


class LockConnections(Database):
    """A pool of their own: who holds a lock needs further connections to get on. `pool_size` and `max_overflow` bound
    how many locks one gateway holds at once.
    """

    owner = "gateway"
    pool: ClassVar[dict[str, Any]] = {"pool_size": 4, "max_overflow": 12, "pool_timeout": 30}


class DatabaseLocks:
    """On PostgreSQL a lock is a transaction with an advisory lock: it ends with the process or its connection, however
    they end. On SQLite there is one process, and a lock is asyncio's.

    No holder of a lock takes another one. DatabaseAwayError where PostgreSQL is lost, at the latest when the lock is
    given back: then somebody else may have had it, and what must not happen twice is checked once more where it is
    written.
    """

    def __init__(self, connections: LockConnections | None) -> None:
        self._connections = connections
        self._here: Locks = {}

    @classmethod
    def of(cls, url: str, password: str | None) -> DatabaseLocks:
        postgresql = sa.make_url(url).get_backend_name() == "postgresql"
        return cls(LockConnections.open(url, password) if postgresql else None)

    @asynccontextmanager
    async def alone(self, *name: str) -> AsyncIterator[None]:
        """Waits until nobody else holds the lock of this name."""
        async with NamedLock(self._here, "\0".join(name)), self._transaction() as connection:
            if connection is not None:
                await connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_key(name))))
            yield
            if connection is not None:
                await connection.execute(sa.select(1))  # it was held until now

    @asynccontextmanager
    async def if_free(self, *name: str) -> AsyncIterator[bool]:
        """Whether the lock was free; then it is held meanwhile."""
        lock = NamedLock(self._here, "\0".join(name))
        if lock.busy:
            yield False
            return
        async with lock, self._transaction() as connection:
            free = connection is None or bool(
                await connection.scalar(sa.select(sa.func.pg_try_advisory_xact_lock(_key(name))))
            )
            yield free

    @asynccontextmanager
    async def _transaction(self) -> AsyncIterator[AsyncConnection | None]:
        if self._connections is None:
            yield None
            return
        async with self._connections.read() as connection:
            await connection.exec_driver_sql("SET LOCAL idle_in_transaction_session_timeout = 0")
            yield connection

    async def close(self) -> None:
        if self._connections is not None:
            await self._connections.close()


def _key(name: tuple[str, ...]) -> int:
    return advisory_key("lock", *name)
