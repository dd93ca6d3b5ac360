"""A gateway's whole state from its SQLite file to another database: `node-gateway migrate --from FILE`."""

from __future__ import annotations

from pathlib import Path

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from node_gateway.db.store import GatewayDatabase, metadata

BATCH = 500  # rows in one statement


class CopyError(RuntimeError):
    """The state was not copied, and the target is as it was."""


async def copy_from(file: Path, target: GatewayDatabase) -> dict[str, int]:
    """Copies every row of the SQLite `file` into `target`, whose tables have to be empty, in one transaction; the
    numbers of rows by table. Brings the file's schema to the newest revision first, and leaves its rows as they are.
    CopyError, and RuntimeError where a gateway uses the file.
    """
    if not file.is_file():
        raise CopyError(f"There is no file {file}. Nothing was copied.")
    source = GatewayDatabase.open(f"sqlite+aiosqlite:///{file}")
    try:
        await source.create()
        async with source.read() as old, target.write() as new:
            await _expect_empty(new)
            counts = {table.name: await _copy(old, new, table) for table in metadata.sorted_tables}
            for table in metadata.sorted_tables:
                await _compare(new, table, counts[table.name])
                await _continue_numbers(new, table)
        return counts
    finally:
        await source.close()


async def _expect_empty(new: AsyncConnection) -> None:
    for table in metadata.sorted_tables:
        if (await new.execute(sa.select(sa.literal(1)).select_from(table).limit(1))).first() is not None:
            raise CopyError(
                f"The database of NODE_GATEWAY_DATABASE_URL has rows in {table.name}. Give an empty one: two states"
                " cannot be made one."
            )


async def _copy(old: AsyncConnection, new: AsyncConnection, table: sa.Table) -> int:
    count = 0
    rows = await old.stream(sa.select(table).order_by(*table.primary_key.columns))
    async for part in rows.mappings().partitions(BATCH):
        await new.execute(table.insert(), [dict(row) for row in part])
        count += len(part)
    return count


async def _compare(new: AsyncConnection, table: sa.Table, count: int) -> None:
    there = (await new.execute(sa.select(sa.func.count()).select_from(table))).scalar_one()
    if there != count:
        raise CopyError(f"{table.name} has {there} rows after {count} were copied. Nothing was kept; try again.")


async def _continue_numbers(new: AsyncConnection, table: sa.Table) -> None:
    """PostgreSQL counts on after the highest number that was copied; SQLite does so by itself."""
    column = table.autoincrement_column
    if new.dialect.name != "postgresql" or column is None:
        return
    highest = (await new.execute(sa.select(sa.func.max(column)))).scalar_one()
    if highest is not None:
        sequence = sa.func.pg_get_serial_sequence(table.name, column.name)
        await new.execute(sa.select(sa.func.setval(sequence, highest)))
