"""Small transactions that wait for SQLite at the same time are one: one turn of a thread and one commit for all.

A turn of aiosqlite's thread for each statement costs more than the statement; here a whole transaction is one turn.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError

from gdi.kit.database import is_away, tune

T = TypeVar("T")
Work = Callable[[sa.Connection], T]  # what a transaction does; it is called in another thread
MOST = 100  # works in one transaction


@dataclass(frozen=True)
class _Outcome:
    value: Any = None  # whatever the work gave
    error: Exception | None = None


class ReadThread:
    """Reads of SQLite, each in one turn of a thread: for what is asked for at every page of a list."""

    def __init__(self, url: sa.URL, cache_kib: int) -> None:
        self._engine = _engine(url, cache_kib, writes=False)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="database-read")

    async def run(self, work: Work[T]) -> T:
        """What `work` gave, of one moment."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._read, work)

    def _read(self, work: Work[T]) -> T:
        with self._engine.connect() as connection:
            return work(connection)

    def close(self) -> None:
        self._thread.shutdown(wait=True)
        self._engine.dispose()


class GroupCommit:
    """`turn` is held while a transaction is open, so that nobody else of this process writes meanwhile."""

    def __init__(self, url: sa.URL, turn: asyncio.Lock, cache_kib: int) -> None:
        self._engine = _engine(url, cache_kib, writes=True)
        self._turn = turn
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="database")
        self._waiting: list[tuple[Work[Any], asyncio.Future[Any]]] = []
        self._writer: asyncio.Task[None] | None = None

    async def run(self, work: Work[T]) -> T:
        """What `work` gave; it is committed when this returns. Where it raises, nothing of it is written, and all of
        the others. Who is cancelled meanwhile does not know whether it was done.
        """
        done: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._waiting.append((work, done))
        if self._writer is None:
            self._writer = asyncio.create_task(self._write())
        return await done

    async def _write(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            while self._waiting:
                async with self._turn:
                    batch, self._waiting = self._waiting[:MOST], self._waiting[MOST:]
                    works = [work for work, _ in batch]
                    try:
                        outcomes = await loop.run_in_executor(self._thread, self._commit, works)
                    except Exception as error:
                        outcomes = [_Outcome(error=error)] * len(batch)
                for (_, done), outcome in zip(batch, outcomes, strict=True):
                    if done.done():
                        continue  # whoever wanted it was cancelled
                    if outcome.error is not None:
                        done.set_exception(outcome.error)
                    else:
                        done.set_result(outcome.value)
        finally:
            self._writer = None

    def _commit(self, works: Sequence[Work[Any]]) -> list[_Outcome]:
        with self._engine.connect() as connection, connection.begin():
            return [_done(connection, work) for work in works]

    async def close(self) -> None:
        if self._writer is not None:
            await self._writer
        self._thread.shutdown(wait=True)
        self._engine.dispose()


def _engine(url: sa.URL, cache_kib: int, *, writes: bool) -> sa.Engine:
    """For one thread."""
    engine = sa.create_engine(url.set(drivername="sqlite+pysqlite"), hide_parameters=True, pool_size=1, max_overflow=0)
    tune(engine, cache_kib, writes=writes)
    return engine


def _done(connection: sa.Connection, work: Work[Any]) -> _Outcome:
    connection.exec_driver_sql("SAVEPOINT one")
    try:
        value = work(connection)
    except Exception as error:
        if isinstance(error, DBAPIError) and is_away(error):
            raise  # SQLite may have rolled everything back
        connection.exec_driver_sql("ROLLBACK TO one")
        connection.exec_driver_sql("RELEASE one")
        return _Outcome(error=error)
    connection.exec_driver_sql("RELEASE one")
    return _Outcome(value)
