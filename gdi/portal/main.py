"""`gdi-portal serve` (also without a word): reads the settings, says plainly what is wrong with them, and serves.
`gdi-portal migrate`: brings the database up to date and ends.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import sys

import uvicorn

from gdi.kit.database import DatabaseAwayError
from gdi.kit.graceful_shutdown import GracefulServer, GracefulShutdown
from gdi.kit.migrations import MigrationResult, SchemaError, when_reachable
from gdi.kit.settings import SettingsError
from gdi.kit.version import installed
from gdi.portal.app import create_app
from gdi.portal.door import migrated_store, open_door
from gdi.portal.settings import DatabaseSettings, Settings


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(
        prog="gdi-portal",
        description="The coordinator's API for people and portals, and GA4GH WES 1.1.",
        epilog="Settings are environment variables GDI_PORTAL_… (docs/portal-api.md); secrets are in files that they"
        " name. Exit code 2: a setting, a file or the database is not fit, and a line says which.",
    )
    top.add_argument("--version", action="version", version=f"%(prog)s {installed('gdi-portal')[1]}")
    commands = top.add_subparsers(dest="command", metavar="COMMAND")
    for name, what in (
        ("serve", "answer requests until SIGTERM or SIGINT (the default)"),
        ("migrate", "bring the database's schema to the newest revision, and end"),
    ):
        commands.add_parser(name, help=what, description=what)
    return top


def main() -> int:
    """Exit code 2 where settings, files or the database are not fit."""
    command = parser().parse_args().command
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s", stream=sys.stderr)
    for noisy in ("httpx", "httpcore", "sqlalchemy", "aiosqlite", "alembic"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    try:
        return asyncio.run(migrate() if command == "migrate" else serve(Settings.load()))
    except (SettingsError, SchemaError, DatabaseAwayError) as error:
        print(f"gdi-portal: {error}", file=sys.stderr)
        return 2


async def serve(settings: Settings) -> int:
    door = await open_door(settings)
    drain = GracefulShutdown(settings.drain_seconds)
    config = uvicorn.Config(
        create_app(door, drain),
        host=settings.host,
        port=settings.port,
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=15,
        lifespan="on",
    )
    server = GracefulServer(config, drain)
    await server.serve()
    return 0 if server.started else 2


async def migrate() -> int:
    """As the broker's: waits for the database within bounds."""
    settings = DatabaseSettings.load()

    async def once() -> MigrationResult:
        store, outcome = await migrated_store(settings.database_url, settings.database_password_file)
        await store.close()
        return outcome

    return await when_reachable(once, "gdi-portal", "GDI_PORTAL_")


if __name__ == "__main__":
    sys.exit(main())
