"""The gateway's listeners (public TCP; internal socket or port; monitoring) in one event loop, ended gracefully by
SIGTERM or SIGINT.
"""

from __future__ import annotations

import asyncio
import errno
import gc
import logging
import os
import signal
import socket
import ssl
import stat
from pathlib import Path
from typing import Any

import uvicorn

from gdi.kit.graceful_shutdown import SideServer
from gdi.kit.settings import SettingsError
from node_gateway.app import internal_app, operations_app, public_app
from node_gateway.context import Gateway
from node_gateway.settings import Settings

log = logging.getLogger("node_gateway")


def _server(app: object, settings: Settings, *, internal: bool = False) -> SideServer:
    mutual: dict[str, Any] = {}
    if internal and settings.internal_tls_cert_file is not None:
        mutual = {
            "ssl_certfile": settings.internal_tls_cert_file,
            "ssl_keyfile": settings.internal_tls_key_file,
            "ssl_cert_reqs": ssl.CERT_REQUIRED,
            "ssl_ca_certs": str(settings.internal_client_ca_file),
        }
    return SideServer(
        uvicorn.Config(
            app,  # type: ignore[arg-type]  # an ASGI application
            access_log=False,
            log_config=None,
            server_header=False,
            lifespan="off",
            proxy_headers=False,
            timeout_keep_alive=30,
            timeout_graceful_shutdown=settings.shutdown_seconds,
            h11_max_incomplete_event_size=64 * 1024,
            **mutual,
        )
    )


def _tcp(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        raise SettingsError(f"cannot listen on {host}:{port}: {error.strerror}") from None
    return listener


def _unix(path: Path) -> socket.socket:
    """A socket for the same user and group; one left by a killed process is replaced, one in use is not."""
    if path.exists() or path.is_symlink():
        if not stat.S_ISSOCK(path.lstat().st_mode):
            raise SettingsError(f"INTERNAL_SOCKET: {path} exists and is no socket")
        with socket.socket(socket.AF_UNIX) as probe:
            if probe.connect_ex(str(path)) not in (errno.ECONNREFUSED, errno.ENOENT):
                raise SettingsError(f"INTERNAL_SOCKET: {path} is in use by another process")
        path.unlink()
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    before = os.umask(0o117)
    try:
        listener.bind(str(path))
    except OSError as error:
        raise SettingsError(f"INTERNAL_SOCKET: {path}: {error.strerror or error}") from None
    finally:
        os.umask(before)
    return listener


def collect_seldom() -> None:
    """A check makes millions of small objects without cycles, which the cycle collector would look at again and again:
    two thirds of its CPU time. Reference counts free them.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(100_000, 50, 100)


async def serve(settings: Settings, *, migrated: bool = False) -> None:
    """Serves until SIGTERM or SIGINT; requests under way are given `shutdown_seconds`. `migrated`: the database is at
    its newest revision.
    """
    gateway = await Gateway.open(settings, migrated=migrated)
    collect_seldom()
    try:
        public = _tcp(settings.host, settings.port)
        internal = (
            _unix(settings.internal_socket)
            if settings.internal_socket
            else _tcp(settings.internal_host, settings.internal_port or 0)
        )
        servers = [
            (_server(public_app(gateway), settings), public),
            (_server(internal_app(gateway), settings, internal=True), internal),
        ]
        if settings.operations_port is not None:
            watched = _tcp(settings.operations_host, settings.operations_port)
            servers.append((_server(operations_app(gateway), settings), watched))

        def stop() -> None:
            for server, _ in servers:
                server.should_exit = True

        loop = asyncio.get_running_loop()
        for name in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(name, stop)
        log.info(
            "node %s: public on %s:%d, internal on %s",
            settings.node_id,
            settings.host,
            settings.port,
            settings.internal_socket or settings.internal_port,
        )

        async def one(server: SideServer, listener: socket.socket) -> None:
            try:
                await server.serve(sockets=[listener])
            finally:
                stop()  # one listener without the other is no gateway

        await gateway.health.look()
        own = [asyncio.create_task(duty.for_ever()) for duty in (gateway.retention, gateway.health)]
        try:
            await asyncio.gather(*(one(server, listener) for server, listener in servers))
        finally:
            for task in own:
                task.cancel()
            await asyncio.wait(own)
    finally:
        await gateway.close()
        if settings.internal_socket:
            settings.internal_socket.unlink(missing_ok=True)
