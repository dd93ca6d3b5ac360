"""How a stand-in serves its application: on a socket bound beforehand, a ready file once it listens, an end with its
parent.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
from pathlib import Path

import uvicorn
from starlette.types import ASGIApp


def bind(host: str, port: int) -> socket.socket:
    """A listening-to-be TCP socket; port 0 takes a free one. OSError naming the address where it is taken."""
    listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        raise OSError(
            error.errno, f"cannot listen on {host}:{port}: {error.strerror}; stop what uses it or choose another port"
        ) from None
    return listener


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config, ready_file: Path | None, url: str, parent: int | None) -> None:
        super().__init__(config)
        self.ready_file, self.url, self.parent = ready_file, url, parent

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.ready_file is not None:
            # Renamed into place: who waits for the file never reads half of it.
            draft = self.ready_file.with_name(self.ready_file.name + f".{os.getpid()}")
            draft.write_text(json.dumps({"url": self.url, "pid": os.getpid()}))
            draft.replace(self.ready_file)

    async def main_loop(self) -> None:
        watch = asyncio.create_task(self._watch_parent())
        try:
            await super().main_loop()
        finally:
            watch.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await watch

    async def _watch_parent(self) -> None:
        while self.parent is not None:
            if os.getppid() != self.parent:
                self.should_exit = True
                return
            await asyncio.sleep(0.5)


def serve(
    app: ASGIApp, listener: socket.socket, url: str, *, ready_file: Path | None = None, with_parent: bool = False
) -> int:
    """Serves until SIGTERM or SIGINT. No access log: request lines may carry codes. The exit code."""
    if ready_file is not None:
        ready_file.unlink(missing_ok=True)
    config = uvicorn.Config(
        app,
        log_level="warning",
        access_log=False,
        timeout_graceful_shutdown=5,
        server_header=False,
        h11_max_incomplete_event_size=64 * 1024,
    )
    _Server(config, ready_file, url, os.getppid() if with_parent else None).run(sockets=[listener])
    return 0
