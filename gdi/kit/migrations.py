"""Alembic without alembic.ini: brings a server's schema to its newest revision, in one transaction that only one
process at a time runs, and says from where to where it went.

A package of revisions holds `first.py` (revision 0001 as it was, for databases made before revisions had numbers) and
`versions/`.
"""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import Awaitable, Callable

from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from gdi.kit.database import Database, DatabaseAwayError, sqlstate
from gdi.kit.schema import MigrationResult, Schema, SchemaError

__all__ = ["MigrationResult", "Schema", "SchemaError", "upgrade", "when_reachable"]

log = logging.getLogger(__name__)
REACH_TRIES, REACH_PAUSE = 20, 3.0  # a minute
TRIES, PAUSE = 60, 0.5  # seconds between tries for locks that running servers hold
BUSY = ("55P03", "40P01")  # lock not available, deadlock


async def upgrade(database: Database, schema: Schema) -> MigrationResult:
    """Brings the schema to the newest revision; waits for a migration that another process runs. SchemaError where the
    database is newer than the program, lacks something, or is no database of this program; then it is as it was.
    """
    from gdi.kit.migration_steps import upgraded  # Alembic costs 11 MB, which a process that only reads does not need

    for attempt in range(TRIES):
        try:
            async with database.write() as connection:
                return await connection.run_sync(upgraded, schema)
        except DBAPIError as error:
            if sqlstate(error) not in BUSY or attempt == TRIES - 1:
                raise
            log.info("the migration waits for the tables that running servers use")
            await asyncio.sleep(PAUSE)
    raise AssertionError("unreachable")


async def when_reachable(migrate: Callable[[], Awaitable[MigrationResult]], program: str, variables: str) -> int:
    """The commands' `migrate`: waits up to a minute for the database, says from where to where it went, and gives the
    exit code: 0, or 1 where it cannot be had. `variables`: their prefix, for the message.
    """
    for _ in range(REACH_TRIES):
        try:
            print(f"{program}: the database's schema: {await migrate()}", file=sys.stderr)
            return 0
        except (DatabaseAwayError, OSError, SQLAlchemyError) as error:
            print(f"{program}: waiting for the database ({type(error).__name__})", file=sys.stderr)
            await asyncio.sleep(REACH_PAUSE)
    print(
        f"{program}: the database cannot be reached; check {variables}DATABASE_URL, its password file and the network",
        file=sys.stderr,
    )
    return 1
