"""One migration, in the transaction that it has: the revisions above the database's own, and whether the tables are
then what the program uses.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import Any

import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.operations import Operations
from alembic.script import ScriptDirectory

from gdi.kit.database import advisory_key
from gdi.kit.schema import MigrationResult, Schema, SchemaError

log = logging.getLogger(__name__)
FIRST = "0001"
LOCK_TIMEOUT = "500ms"  # less than PostgreSQL's deadlock_timeout: it is the migration that gives way
SHOWN = 5  # differences in one message


def upgraded(connection: sa.Connection, schema: Schema) -> MigrationResult:
    """The schema at its newest revision, in this transaction. SchemaError."""
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
