"""The byte relay: what goes in comes out, half-close passes, nothing is held without bound, a dead target is told at
once.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from gdi.kit.socket_proxy import CHUNK, SocketProxy, Tcp, Unix


async def echo_after_eof(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    data = await reader.read(-1)
    writer.write(data)
    await writer.drain()
    writer.close()


async def served(handler: object = echo_after_eof) -> tuple[asyncio.Server, Tcp]:
    server = await asyncio.start_server(handler, "127.0.0.1", 0)  # type: ignore[arg-type]
    return server, Tcp("127.0.0.1", server.sockets[0].getsockname()[1])


async def test_bytes_and_half_close_pass_in_both_forms(tmp_path: Path) -> None:
    server, target = await served()
    outer = await SocketProxy(Unix(tmp_path / "s.sock"), target).start()
    inner = await SocketProxy(Tcp("127.0.0.1", 0), Unix(tmp_path / "s.sock")).start()
    assert isinstance(inner.listen, Tcp)
    reader, writer = await asyncio.open_connection(inner.listen.host, inner.listen.port)
    sent = bytes(range(256)) * 8192  # 2 MiB, more than any buffer on the way

    async def send() -> None:
        writer.write(sent)
        writer.write_eof()
        await writer.drain()

    _, got = await asyncio.wait_for(asyncio.gather(send(), reader.read(-1)), 60)
    assert got == sent
    await inner.close()
    await outer.close()
    assert not (tmp_path / "s.sock").exists()
    server.close()


async def test_a_slow_reader_holds_the_sender_back_not_the_memory(tmp_path: Path) -> None:
    gate = asyncio.Event()

    async def stuck(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await gate.wait()
        writer.close()

    server, target = await served(stuck)
    relay = await SocketProxy(Unix(tmp_path / "s.sock"), target).start()
    _, writer = await asyncio.open_unix_connection(str(tmp_path / "s.sock"))
    sent = 0
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(1):
            while sent < 500 * CHUNK:
                writer.write(b"x" * CHUNK)
                await writer.drain()
                sent += CHUNK
    assert sent < 300 * CHUNK  # what the sockets of two hops hold, and no more
    gate.set()
    writer.transport.abort()
    await relay.close()
    server.close()


async def test_an_absent_target_ends_the_connection_at_once(tmp_path: Path) -> None:
    relay = await SocketProxy(Unix(tmp_path / "s.sock"), Unix(tmp_path / "nobody.sock")).start()
    reader, _ = await asyncio.open_unix_connection(str(tmp_path / "s.sock"))
    assert await asyncio.wait_for(reader.read(), 60) == b""
    await relay.close()


async def test_connections_are_bounded_and_idle_ones_end(tmp_path: Path) -> None:
    async def quiet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(-1)
        writer.close()

    server, target = await served(quiet)
    relay = await SocketProxy(Unix(tmp_path / "s.sock"), target, max_connections=2, idle=0.5).start()
    pairs = [await asyncio.open_unix_connection(str(tmp_path / "s.sock")) for _ in range(3)]
    ends = await asyncio.wait_for(asyncio.gather(*(r.read() for r, _ in pairs), return_exceptions=True), 60)
    assert all(e == b"" or isinstance(e, OSError) for e in ends)
    await relay.close()
    server.close()
