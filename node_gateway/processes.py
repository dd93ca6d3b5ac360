"""The two processes of a node, each with no more in its memory than it needs: a library that is not needed at every
moment is not imported here.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from node_gateway.settings import DatabaseSettings


def serve() -> None:
    """The gateway, until SIGTERM or SIGINT."""
    from node_gateway.settings import Settings

    settings = Settings.load()
    migrated = _migrated_by_a_child(settings)
    log_to_stderr()
    from gdi.kit.tracing import start_export
    from node_gateway.listeners import serve as answer

    start_export()
    asyncio.run(answer(settings, migrated=migrated))


def serve_agent() -> None:
    """The node's agent, until SIGTERM or SIGINT. No commands, pages or storage of the gateway's are in its memory."""
    log_to_stderr()
    from gdi.kit.tracing import start_export
    from node_gateway.agent.command import run
    from node_gateway.settings import Settings

    start_export()
    asyncio.run(run(Settings.load()))


def _migrated_by_a_child(settings: DatabaseSettings) -> bool:
    """Whether a child of this process brought the database to its newest revision. What that takes ends with it; where
    it could not, this process tries itself, and says why not.
    """
    child = os.fork()
    if child:
        signal.signal(signal.SIGTERM, lambda *_: _end_with(child))
        done = os.waitpid(child, 0)[1] == 0
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        return done
    code = 1
    try:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        log_to_stderr(queued=False)  # a thread would not be forked
        from node_gateway.opened_database import open_database

        async def migrate() -> None:
            database, _ = await open_database(settings)
            await database.close()

        asyncio.run(migrate())
        code = 0
    finally:
        os._exit(code)  # nothing of the parent's is ended by it


def _end_with(child: int) -> None:
    os.kill(child, signal.SIGKILL)
    sys.exit(1)


def log_to_stderr(*, queued: bool = True) -> None:
    """Redacted; `queued`: written by a thread of its own."""
    from gdi.kit.tracing import mark_log_lines
    from node_gateway.redaction import QueuedLog, RedactingFormatter

    handler: logging.Handler = logging.StreamHandler()
    handler.setFormatter(RedactingFormatter("%(asctime)s %(levelname)s %(name)s %(message)s"))
    logging.basicConfig(level=logging.INFO, handlers=[QueuedLog(handler) if queued else handler], force=True)
    mark_log_lines()
    for noisy in ("httpx", "httpcore", "botocore", "boto3", "urllib3", "alembic"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
