"""The gateway's database as its settings name it. No other room is imported: who only migrates needs none."""

from __future__ import annotations

from gdi.kit.migrations import MigrationResult
from node_gateway.db.store import GatewayDatabase
from node_gateway.settings import DatabaseSettings


async def open_database(settings: DatabaseSettings) -> tuple[GatewayDatabase, MigrationResult]:
    """The database with its schema at the newest revision, and from which one it came. RuntimeError where it is in use,
    SchemaError where this version cannot serve it, DatabaseAwayError.
    """
    database = GatewayDatabase.open(settings.database_url, settings.database_password())
    try:
        return database, await database.create()
    except BaseException:
        await database.close()
        raise
