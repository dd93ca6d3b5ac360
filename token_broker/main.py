"""`token-broker`: reads the settings, says plainly what is wrong with them, and serves."""

from __future__ import annotations

import asyncio
import logging
import sys

import uvicorn

from token_broker.app import create_app
from token_broker.broker import open_broker
from token_broker.settings import Settings, SettingsError


def main() -> int:
    """Serves until SIGTERM or SIGINT. Exit code 2 where the settings, files or the Vault mount are not fit."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s", stream=sys.stderr)
    for noisy in ("httpx", "httpcore", "urllib3", "sqlalchemy", "aiosqlite"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    try:
        return asyncio.run(serve(Settings.load()))
    except SettingsError as error:
        print(f"token-broker: {error}", file=sys.stderr)
        return 2


async def serve(settings: Settings) -> int:
    """Opens every part first, so that what is not fit is said in one line, then listens."""
    broker = await open_broker(settings)
    # No access log: the sign-in's callback carries its code in the query.
    config = uvicorn.Config(
        create_app(broker), host=settings.host, port=settings.port, log_config=None, access_log=False, server_header=False, timeout_graceful_shutdown=15,
        lifespan="on",
    )  # fmt: skip
    server = uvicorn.Server(config)
    await server.serve()
    return 0 if server.started else 2


if __name__ == "__main__":
    sys.exit(main())
