"""`gdi-portal serve` (also without a word): reads the settings, says plainly what is wrong with them, and serves.
`gdi-portal migrate`: brings the database up to date and ends.
"""

from __future__ import annotations

import sys

import uvicorn

from gdi.kit.graceful_shutdown import GracefulServer, GracefulShutdown
from gdi.kit.migrations import MigrationResult, when_reachable
from gdi.kit.server_command import ServerCommand
from gdi.portal.app import create_app
from gdi.portal.door import migrated_store, open_door
from gdi.portal.settings import DatabaseSettings, Settings


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


COMMAND = ServerCommand(
    "gdi-portal",
    "gdi-portal",
    "The coordinator's API for people and portals, and GA4GH WES 1.1.",
    "Settings are environment variables GDI_PORTAL_… (docs/portal-api.md); secrets are in files that they"
    " name. Exit code 2: a setting, a file or the database is not fit, and a line says which.",
    lambda: serve(Settings.load()),
    lambda: migrate(),
)


def main() -> int:
    """The command's exit code."""
    return COMMAND.run()


if __name__ == "__main__":
    sys.exit(main())
