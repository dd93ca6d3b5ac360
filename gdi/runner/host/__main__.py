"""`python -m gdi.runner.host --config FILE` runs the process host until SIGTERM; its pods hand over and end with it."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import fcntl
import logging
import os
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import uvicorn

from gdi.kit.settings import SettingsError
from gdi.runner.host.app import create_app
from gdi.runner.host.config import HostConfig, load
from gdi.runner.host.host import Host
from gdi.runner.sandbox import SandboxUnavailableError

log = logging.getLogger(__name__)


def main() -> int:
    parser = argparse.ArgumentParser(prog="gdi.runner.host", description=__doc__)
    parser.add_argument("--config", type=Path, required=True, help="YAML file, see gdi/runner/host/config.py")
    try:
        config = load(parser.parse_args().config)
        logging.basicConfig(level=config.log_level.upper(), format="%(asctime)s %(levelname)s %(name)s: %(message)s")
        logging.getLogger("httpx").setLevel(logging.WARNING)
        with _only_one(config):
            asyncio.run(serve(config))
    except (SettingsError, SandboxUnavailableError, OSError, ValueError) as error:
        print(f"process host: {error}", file=sys.stderr)
        return 2
    return 0


@contextlib.contextmanager
def _only_one(config: HostConfig) -> Iterator[None]:
    """One host for a state folder: the lock is the kernel's and goes with the process."""
    config.state_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    handle = os.open(config.state_dir / "lock", os.O_CREAT | os.O_RDWR, 0o600)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise SettingsError(
                f"{config.state_dir} is used by another process host; stop it or choose another state_dir"
            ) from None
        yield
    finally:
        os.close(handle)


def control_socket(path: Path) -> socket.socket:
    """A listening unix socket of mode 0600; a stale file is replaced."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    with contextlib.suppress(FileNotFoundError):
        path.unlink()
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    before = os.umask(0o177)
    try:
        listener.bind(str(path))
    finally:
        os.umask(before)
    listener.listen(64)
    return listener


async def serve(config: HostConfig) -> None:
    host = Host(config)
    host.identities.write_jwks(config.jwks_file)
    host.write_airflow_token()
    refresh = asyncio.create_task(host.refresh_tokens())
    server = uvicorn.Server(
        uvicorn.Config(create_app(host), log_config=None, access_log=False, timeout_graceful_shutdown=5)
    )
    log.info("process host listens on %s", config.socket)
    try:
        await server.serve(sockets=[control_socket(config.socket)])
    finally:
        refresh.cancel()
        await host.close()
        config.socket.unlink(missing_ok=True)


if __name__ == "__main__":
    sys.exit(main())
