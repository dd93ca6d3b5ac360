"""One agent of a node at a time: a second one waits until the first has gone. On PostgreSQL by an advisory lock, which
ends with its connection; on SQLite by a lock on a file beside the workflows.
"""

from __future__ import annotations

import asyncio
import fcntl
import logging
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import sqlalchemy as sa
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection

from gdi.kit.database import DatabaseAwayError, advisory_key
from node_gateway.db.locks import LockConnections

log = logging.getLogger(__name__)
LOOK = 1.0  # seconds between two looks whether the other agent has gone
PROOF = 5.0  # seconds between two proofs that the lock is still held
WAITS = "another agent of this node is at work; this one waits until it has gone"


@asynccontextmanager
async def one_agent(url: str, password: str | None, folder: Path) -> AsyncIterator[asyncio.Task[None]]:
    """Waits until no other agent works on this database. The task that is given ends, with an error, when that cannot
    be said any more: then this agent has to end too.
    """
    if sa.make_url(url).get_backend_name() == "postgresql":
        async with _on_postgresql(url, password) as lost:
            yield lost
        return
    handle = os.open(folder / "agent.lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        await _locked(handle)
        never = asyncio.create_task(asyncio.Event().wait(), name="held by a file")
        try:
            yield never  # type: ignore[misc]  # it ends never, so that its result is none
        finally:
            never.cancel()
    finally:
        os.close(handle)


async def _locked(handle: int) -> None:
    looks = 0
    while True:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            looks = _tell(looks)
        await asyncio.sleep(LOOK)


@asynccontextmanager
async def _on_postgresql(url: str, password: str | None) -> AsyncIterator[asyncio.Task[None]]:
    connections, looks = LockConnections.open(url, password), 0
    key = advisory_key("lock", "agent")
    try:
        async with connections.read() as connection:
            await connection.exec_driver_sql("SET LOCAL idle_in_transaction_session_timeout = 0")
            while not await connection.scalar(sa.select(sa.func.pg_try_advisory_xact_lock(key))):
                looks = _tell(looks)
                await asyncio.sleep(LOOK)
            lost = asyncio.create_task(_proven(connection))
            try:
                yield lost
            finally:
                lost.cancel()
                await asyncio.gather(lost, return_exceptions=True)
    finally:
        await connections.close()


async def _proven(connection: AsyncConnection) -> None:
    while True:
        await asyncio.sleep(PROOF)
        try:
            async with asyncio.timeout(
                PROOF
            ):  # a server that is gone says nothing, and another has given the lock away
                await connection.execute(sa.select(1))
        except (SQLAlchemyError, OSError) as error:  # a TimeoutError is an OSError
            raise DatabaseAwayError("agent", error) from None


def _tell(looks: int) -> int:
    if not looks:
        log.warning(WAITS)
    return looks + 1
