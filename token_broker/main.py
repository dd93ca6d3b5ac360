"""`token-broker serve` (also without a word): reads the settings, says plainly what is wrong with them, and serves.
`token-broker migrate`: brings the database up to date and ends.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator

import uvicorn

from gdi.kit.graceful_shutdown import GracefulServer, GracefulShutdown, SideServer
from gdi.kit.migrations import MigrationResult, when_reachable
from gdi.kit.server_command import ServerCommand
from gdi.kit.serving import bind
from gdi.kit.settings import SettingsError
from token_broker.app import create_app, operations_app
from token_broker.broker import Broker, migrated_store, open_broker
from token_broker.settings import DatabaseSettings, Settings

KEYS_WAIT = 15.0  # seconds at most, before it listens


async def serve(settings: Settings) -> int:
    """Opens every part first, so that what is not fit is said in one line, then listens."""
    broker = await open_broker(settings)
    # No access log: the sign-in's callback carries its code in the query.
    drain = GracefulShutdown(settings.drain_seconds)
    config = uvicorn.Config(
        create_app(broker, drain),
        host=settings.host,
        port=settings.port,
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=15,
        lifespan="on",
    )
    await broker.callers.learn(KEYS_WAIT)
    await broker.health.look()
    server = GracefulServer(config, drain)
    async with _watched(settings, broker, drain):
        await server.serve()
    return 0 if server.started else 2


@contextlib.asynccontextmanager
async def _watched(settings: Settings, broker: Broker, drain: GracefulShutdown) -> AsyncIterator[None]:
    """With the listener for monitoring, where one is set, until the broker stops. SettingsError where the port is
    taken.
    """
    if settings.operations_port is None:
        yield
        return
    try:
        listener = bind(settings.operations_host, settings.operations_port)
    except OSError as error:
        raise SettingsError(f"TOKEN_BROKER_OPERATIONS_PORT: {error.strerror}") from None
    config = uvicorn.Config(
        operations_app(broker, drain),
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=5,
        lifespan="off",
    )
    server = SideServer(config)
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    try:
        yield
    finally:
        server.should_exit = True
        await serving


async def migrate() -> int:
    """Waits for the database within bounds, brings its schema to the newest revision, says from which it came, and
    ends: 0, or 1 where the database cannot be had. SchemaError where it is newer, or lacks what it should have.
    """
    settings = DatabaseSettings.load()

    async def once() -> MigrationResult:
        store, outcome = await migrated_store(settings.database_url, settings.database_password_file)
        await store.close()
        return outcome

    return await when_reachable(once, "token-broker", "TOKEN_BROKER_")


COMMAND = ServerCommand(
    "token-broker",
    "gdi-token-broker",
    "The token broker of a federation: grants, tickets, admission of runs by visas, run tokens.",
    "Settings are environment variables TOKEN_BROKER_… (docs/contracts.md); secrets are in files that they"
    " name. Exit code 2: a setting, a file or the Vault mount is not fit, and a line says which.",
    lambda: serve(Settings.load()),
    lambda: migrate(),
)


def main() -> int:
    """The command's exit code."""
    return COMMAND.run()


if __name__ == "__main__":
    sys.exit(main())
