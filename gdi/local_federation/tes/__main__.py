"""`python -m gdi.local_federation.tes --config FILE`: starts the TES and serves until SIGTERM or SIGINT. Exit code 2:
the settings or the machine are not right.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import fcntl
import logging
import os
import socket
import sqlite3
import sys
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import httpx
import uvicorn
from fastapi import FastAPI

from gdi.kit.bounded_read import BoundedAsyncClient
from gdi.kit.settings import SettingsError
from gdi.local_federation.tes import app as web
from gdi.local_federation.tes import folder
from gdi.local_federation.tes.archive import ArchiveReader
from gdi.local_federation.tes.auth import TesAuthenticator
from gdi.local_federation.tes.bucket import Buckets
from gdi.local_federation.tes.config import UNBOUNDED, TesConfig, load
from gdi.local_federation.tes.database import StandInDatabase
from gdi.local_federation.tes.store import StandInTasks
from gdi.local_federation.tes.worker import Worker
from gdi.runner.sandbox import SandboxUnavailableError, cgroups, find_maker
from gdi.runner.sandbox.bounds import unbounded

log = logging.getLogger("gdi.local_federation.tes")
HOUSEKEEPING_SECONDS = 3600


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m gdi.local_federation.tes", description=__doc__)
    parser.add_argument("--config", type=Path, required=True, metavar="FILE")
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    logging.getLogger("httpx").setLevel(logging.WARNING)
    try:
        config = load(options.config)
        with _alone(config.state_dir):
            serve(config)
    except (SettingsError, SandboxUnavailableError) as error:
        print(f"tes: {error}", file=sys.stderr)
        return 2
    return 0


def serve(config: TesConfig) -> None:
    """Serves until a signal says stop. SettingsError and SandboxUnavailableError before anything listens."""
    # Everything that can be wrong is found out before the port opens.
    maker = config.sandbox or find_maker()
    groups = cgroups.find() if config.limits.cgroups else None
    sentences = unbounded(maker, groups)
    for sentence in sentences:
        log.warning("%s", sentence)
    (config.state_dir / UNBOUNDED).write_text("\n".join(sentences) + "\n")
    archive = ArchiveReader(config.archive) if config.archive else None
    buckets = Buckets(config.s3) if config.s3 else None
    TesAuthenticator(config, httpx.AsyncClient())
    listener = _listen(config)

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        database = StandInDatabase(StandInTasks(config.state_dir / "tes.sqlite"))
        again = await database.run(StandInTasks.recover)
        if again:
            log.warning("%d tasks ran when the TES ended; they run again from the start", again)
        await asyncio.to_thread(_remove_remains, config.state_dir / "tasks")
        worker = Worker(config, database, maker, archive, buckets, groups)
        async with BoundedAsyncClient(trust_env=False) as client:
            app.state.service = web.TesService(
                database, worker, TesAuthenticator(config, client), config.limits.queued_tasks
            )
            background = [asyncio.create_task(worker.run()), asyncio.create_task(_housekeeping(config, database))]
            if config.port_file:
                config.port_file.write_text(f"{listener.getsockname()[1]}\n")
            try:
                yield
            finally:
                for task in background:
                    task.cancel()
                await asyncio.wait(background)
                database.close()

    server = uvicorn.Server(
        uvicorn.Config(
            web.make(lifespan), log_config=None, access_log=False, timeout_graceful_shutdown=5, server_header=False
        )
    )
    log.info("listening on http://%s:%d, %d slots", *listener.getsockname()[:2], config.slots)
    server.run(sockets=[listener])


def _listen(config: TesConfig) -> socket.socket:
    try:
        return socket.create_server((config.host, config.port), backlog=512)
    except OSError as error:
        raise SettingsError(
            f"cannot listen on {config.host}:{config.port}: {error.strerror}; choose another port"
        ) from None


async def _housekeeping(config: TesConfig, database: StandInDatabase) -> None:
    while True:
        try:
            many = await database.run(StandInTasks.forget, time.time() - config.keep_finished_days * 86_400)
        except sqlite3.Error as error:
            log.warning("old tasks could not be forgotten: %s", error)
            many = 0
        await asyncio.sleep(1 if many else HOUSEKEEPING_SECONDS)


def _remove_remains(tasks: Path) -> None:
    """Folders of tasks that ran when the last TES was killed; what ran in them died with it."""
    tasks.mkdir(parents=True, exist_ok=True, mode=0o700)
    for remains in tasks.iterdir():
        try:
            folder.remove(remains)
        except OSError as error:
            log.warning("%s could not be removed: %s", remains, error.strerror)


@contextlib.contextmanager
def _alone(state_dir: Path) -> Iterator[None]:
    """One TES for one state folder: two would run each task twice. The kernel lets go of the lock however this process
    ends.
    """
    try:
        state_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        descriptor = os.open(state_dir / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise SettingsError(
            f"{state_dir}: {error.strerror}; state_dir must be a folder that this user may write"
        ) from None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        raise SettingsError(
            f"{state_dir} is used by another TES that runs; stop it or choose another state_dir"
        ) from None
    try:
        yield
    finally:
        os.close(descriptor)


if __name__ == "__main__":
    raise SystemExit(main())
