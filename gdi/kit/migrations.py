"""Alembic without alembic.ini: brings a server's schema to its newest revision, in one transaction that only one
process at a time runs, and says from where to where it went.

A package of revisions holds `first.py` (revision 0001 as it was, for databases made before revisions had numbers) and
`versions/`.
"""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.operations import Operations
from alembic.script import ScriptDirectory
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from gdi.kit.database import Database, DatabaseAwayError, advisory_key, sqlstate

log = logging.getLogger(__name__)
FIRST = "0001"
REACH_TRIES, REACH_PAUSE = 20, 3.0  # a minute
TRIES, PAUSE = 60, 0.5  # seconds between tries for locks that running servers hold
LOCK_TIMEOUT = "500ms"  # less than PostgreSQL's deadlock_timeout: it is the migration that gives way
BUSY = ("55P03", "40P01")  # lock not available, deadlock
SHOWN = 5  # differences in one message


class SchemaError(Exception):
    """The database's schema is not one that this version can serve or upgrade; nothing was changed. The message says
    what to do.
    """


@dataclass(frozen=True)
class Schema:
    """A server's schema. `later`: tables of revision 0001 that older databases without a number may lack; any other
    table that is missing there is a fault.
    """

    program: str  # as in messages: token-broker
    folder: Path  # of the package with the revisions
    metadata: sa.MetaData  # the tables as the program uses them
    first: sa.MetaData  # those of revision 0001
    later: tuple[str, ...] = ()
    complete: Callable[[sa.Connection], None] = field(default=lambda _: None)  # makes what is no table: triggers

    @property
    def scripts(self) -> ScriptDirectory:
        """The revisions in `versions/`."""
        return ScriptDirectory(self.folder)

    @property
    def version_table(self) -> str:
        """Where a database has its number: under a name of the program's own, for Airflow has an `alembic_version`."""
        return f"alembic_version_{self.program.replace('-', '_')}"

    def context(self, connection: sa.Connection) -> MigrationContext:
        """Alembic's view of the database."""
        return MigrationContext.configure(connection, opts={"version_table": self.version_table})

    @property
    def head(self) -> str:
        """The newest revision that this program knows."""
        return str(self.scripts.get_current_head())


@dataclass(frozen=True)
class MigrationResult:
    """What a migration did. `before`: "revision 0001", or what stood there instead of a number."""

    before: str
    after: str  # the revision's number
    changed: bool

    def __str__(self) -> str:
        return f"from {self.before} to {self.after}" if self.changed else f"already at {self.after}"


async def upgrade(database: Database, schema: Schema) -> MigrationResult:
    """Brings the schema to the newest revision; waits for a migration that another process runs. SchemaError where the
    database is newer than the program, lacks something, or is no database of this program; then it is as it was.
    """
    for attempt in range(TRIES):
        try:
            async with database.write() as connection:
                return await connection.run_sync(_upgrade, schema)
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


def _upgrade(connection: sa.Connection, schema: Schema) -> MigrationResult:
    if connection.dialect.name == "postgresql":  # on SQLite the transaction itself is the lock
        connection.execute(sa.select(sa.func.pg_advisory_xact_lock(advisory_key("migrate", schema.program))))
        connection.exec_driver_sql(f"SET LOCAL lock_timeout = '{LOCK_TIMEOUT}'")
    head = schema.head
    number = _number(schema.context(connection))
    if number is not None and number not in _known(schema):
        raise SchemaError(
            f"The database is at revision {number}, which this version of {schema.program} does not know: it knows "
            f"{head} and older. A newer version upgraded it. Start that version again, or restore the backup of before "
            "that upgrade."
        )
    before = f"revision {number}" if number else _adopt(connection, schema)
    _run(schema.context(connection), schema.scripts)
    if found := differences(connection, schema.metadata):
        raise SchemaError(
            f"The database is not what revision {head} of {schema.program} is: {_listed(found)}. Nothing was changed. "
            "Put back what was changed by hand, or restore a backup."
        )
    schema.complete(connection)
    return MigrationResult(before, head, changed=number != head)


def _run(context: MigrationContext, scripts: ScriptDirectory) -> None:
    """Every revision above the database's own, each with its number."""
    for script in reversed(list(scripts.iterate_revisions("head", _number(context) or "base"))):
        with Operations.context(context):
            script.module.upgrade()
        context.stamp(scripts, script.revision)
        log.info("the database is at revision %s: %s", script.revision, script.doc)


def _number(context: MigrationContext) -> str | None:
    heads = context.get_current_heads()
    return heads[0] if heads else None


def _known(schema: Schema) -> set[str]:
    return {str(script.revision) for script in schema.scripts.walk_revisions()}


def _adopt(connection: sa.Connection, schema: Schema) -> str:
    """A database without a number: an empty one is left to revision 0001; one that an older version made is brought to
    revision 0001 step by step and numbered.
    """
    there = set(sa.inspect(connection).get_table_names())
    if not there & set(schema.first.tables):
        return "an empty database"
    lacking = [name for name in schema.first.tables if name not in there]
    if unknown := [name for name in lacking if name not in schema.later]:
        raise SchemaError(
            f"The database has no revision and is not one that {schema.program} made: it lacks the table "
            f"{', the table '.join(unknown[:SHOWN])}. Nothing was changed. Check the database's URL, or restore a "
            "backup."
        )
    for name in lacking:
        log.info("a database of before revision %s: the table %s is added", FIRST, name)
        schema.first.tables[name].create(connection)
    if found := differences(connection, schema.first):
        raise SchemaError(
            f"The database has no revision and is not what {schema.program} made until revision {FIRST}: "
            f"{_listed(found)}. Nothing was changed. Put back what was changed by hand, or restore a backup."
        )
    schema.context(connection).stamp(schema.scripts, FIRST)
    return f"a database of before revision {FIRST}" if lacking else f"an unnumbered revision {FIRST}"


def differences(connection: sa.Connection, metadata: sa.MetaData) -> list[str]:
    """What the tables lack or have otherwise than `metadata` says, as clauses. Other tables and more indexes are no
    difference.
    """
    context = MigrationContext.configure(
        connection,
        opts={
            "compare_type": True,
            "include_name": lambda name, kind, _: kind != "table" or name in metadata.tables,
        },
    )
    return [clause for clause in map(_clause, _flat(compare_metadata(context, metadata))) if clause]


def _flat(found: Iterable[Any]) -> Iterable[tuple[Any, ...]]:  # Alembic's tuples, of which some come in lists
    for item in found:
        yield from _flat(item) if isinstance(item, list) else (item,)


def _clause(item: tuple[Any, ...]) -> str:
    match item:
        case ("add_table", table):
            return f"the table {table.name} is missing"
        case ("add_column", _, table, column):
            return f"the table {table} lacks the column {column.name}"
        case ("remove_column", _, table, column):
            return f"the table {table} has a column {column.name} too many"
        case (("modify_type" | "modify_nullable" | "modify_default") as kind, _, table, column, *_):
            return f"the column {column} of the table {table} has another {kind.removeprefix('modify_')}"
        case ("add_index", index):
            return f"the table {index.table.name} lacks the index {index.name}"
        case (("add_constraint" | "add_fk"), constraint):
            columns = ", ".join(column.name for column in constraint.columns)
            return f"the table {constraint.table.name} lacks a constraint of {columns}"
        case (("remove_constraint" | "remove_fk"), constraint):
            return f"the table {constraint.table.name} has a constraint too many"
        case _:
            return ""


def _listed(found: list[str]) -> str:
    rest = len(found) - SHOWN
    return "; ".join(found[:SHOWN]) + (f"; and {rest} more" if rest > 0 else "")
