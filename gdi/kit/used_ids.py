"""Ids that are good once, or have ended before their time: remembered in the database until they are worth nothing
anyhow, so that all replicas know.
"""

from __future__ import annotations

import time
from typing import ClassVar

import sqlalchemy as sa

from gdi.kit.database import Database, insert


class UsedIds:
    """Over a table that `table` made. `kind`s do not know each other's ids."""

    MAX_ID: ClassVar[int] = 100  # characters

    def __init__(self, database: Database, table: sa.Table) -> None:
        self._database, self._table = database, table

    @classmethod
    def table(cls, metadata: sa.MetaData) -> sa.Table:
        """The table, by the name `used_ids`. Its schema's revisions have to make it."""
        return sa.Table(
            "used_ids",
            metadata,
            sa.Column("kind", sa.String(20), primary_key=True),
            sa.Column("id", sa.String(cls.MAX_ID), primary_key=True),
            sa.Column("until", sa.Float, nullable=False, index=True),
        )

    async def add(self, kind: str, identifier: str, until: float) -> bool:
        """Whether the id is new; of many that add it at once, one is told so. `until`: seconds since the epoch."""
        async with self._database.write() as connection:
            statement = insert(connection, self._table).values(kind=kind, id=identifier, until=until)
            return (await connection.execute(statement.on_conflict_do_nothing())).rowcount == 1

    async def has(self, kind: str, identifier: str) -> bool:
        t = self._table.c
        query = sa.select(t.until).where(t.kind == kind, t.id == identifier)
        async with self._database.read() as connection:
            return (await connection.execute(query)).first() is not None

    async def forget_old(self) -> None:
        async with self._database.write() as connection:
            await connection.execute(self._table.delete().where(self._table.c.until < time.time()))
