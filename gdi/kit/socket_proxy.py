"""A byte relay between a listening socket and one fixed destination, TCP or unix on either side. Bounded buffers and
connections; half-close passes through.

A Snakemake pod has no network but unix sockets: the process host relays them to the broker and the gateway (unix →
TCP), the pod's own entry point gives programs inside a loopback port for each (TCP → unix). Bytes are not looked at.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from dataclasses import dataclass, field
from pathlib import Path

log = logging.getLogger(__name__)

CHUNK = 64 * 1024  # bytes held for each direction of a connection, besides the sockets' own buffers
CONNECT_TIMEOUT = 5.0
FLUSH_TIMEOUT = 30.0


@dataclass(frozen=True)
class Tcp:
    """An address on an IP network. Port 0 listens on a free one."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"


@dataclass(frozen=True)
class Unix:
    """A unix stream socket by its path (at most 107 bytes on Linux)."""

    path: Path

    def __str__(self) -> str:
        return str(self.path)


Address = Tcp | Unix


@dataclass
class SocketProxy:
    """Listens at `listen` and joins each connection to `target`. `idle` seconds without a byte in either direction end
    a connection.

    Above `max_connections` at once, and where the target does not answer within 5 s, a new connection is closed at
    once: the client retries.
    """

    listen: Address
    target: Address
    max_connections: int = 64
    idle: float = 900
    _server: asyncio.Server | None = None
    _live: set[asyncio.Task[None]] = field(default_factory=set)

    async def start(self) -> SocketProxy:
        """Starts to listen; a stale socket file at a unix address is replaced. OSError where the address cannot be
        had.
        """
        if isinstance(self.listen, Unix):
            with contextlib.suppress(FileNotFoundError):
                self.listen.path.unlink()
            self._server = await asyncio.start_unix_server(self._accept, path=str(self.listen.path), limit=CHUNK)
        else:
            self._server = await asyncio.start_server(
                self._accept, host=self.listen.host, port=self.listen.port, limit=CHUNK
            )
            self.listen = Tcp(self.listen.host, self._server.sockets[0].getsockname()[1])
        return self

    async def close(self) -> None:
        """Stops listening and cuts what is open."""
        if self._server is not None:
            self._server.close()
        for task in list(self._live):
            task.cancel()
        if self._live:
            await asyncio.gather(*self._live, return_exceptions=True)
        if isinstance(self.listen, Unix):
            with contextlib.suppress(OSError):
                self.listen.path.unlink()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        if len(self._live) >= self.max_connections:
            log.warning("relay to %s: %d connections are open, one more is closed", self.target, len(self._live))
            writer.transport.abort()
            return
        self._live.add(task)
        try:
            await self._join(reader, writer)
        except (OSError, TimeoutError, asyncio.IncompleteReadError) as error:
            log.debug("relay to %s: %s", self.target, type(error).__name__)
        except asyncio.CancelledError:
            pass  # only close() cancels; asyncio's server would log it as an error
        finally:
            self._live.discard(task)
            writer.transport.abort()

    async def _join(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT):
                if isinstance(self.target, Unix):
                    far_reader, far_writer = await asyncio.open_unix_connection(str(self.target.path), limit=CHUNK)
                else:
                    far_reader, far_writer = await asyncio.open_connection(
                        self.target.host, self.target.port, limit=CHUNK
                    )
        except (OSError, TimeoutError) as error:
            log.warning("relay: %s does not answer: %s", self.target, error or type(error).__name__)
            return
        for end in (writer, far_writer):
            end.transport.set_write_buffer_limits(high=CHUNK)
        clock = _Clock()
        clean = False
        pumps = [
            asyncio.create_task(_pump(reader, far_writer, clock)),
            asyncio.create_task(_pump(far_reader, writer, clock)),
        ]
        both = asyncio.gather(*pumps)
        watch = asyncio.create_task(clock.run_out(self.idle))
        watch.add_done_callback(lambda _: both.cancel())
        try:
            await both
            clean = True
        finally:
            for task in (*pumps, watch):
                task.cancel()
            await asyncio.gather(*pumps, watch, return_exceptions=True)
            for end in (far_writer, writer):
                if clean:
                    with contextlib.suppress(OSError, TimeoutError):
                        end.close()
                        async with asyncio.timeout(FLUSH_TIMEOUT):  # what is still buffered for a slow reader
                            await end.wait_closed()
                end.transport.abort()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, clock: _Clock) -> None:
    """Copies until end of file, then half-closes the far side, so that a client may still read after it has said
    all.
    """
    while data := await reader.read(CHUNK):
        clock.touch()
        writer.write(data)
        await writer.drain()
    if writer.can_write_eof():
        writer.write_eof()


class _Clock:
    """When the last byte passed."""

    def __init__(self) -> None:
        self.touch()

    def touch(self) -> None:
        self.at = asyncio.get_running_loop().time()

    async def run_out(self, idle: float) -> None:
        loop = asyncio.get_running_loop()
        while (left := self.at + idle - loop.time()) > 0:  # noqa: ASYNC110
            await asyncio.sleep(left)
