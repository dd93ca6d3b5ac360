"""Hands Crypt4GH files to Funnel so that it cannot lose a part of them.

Funnel (commit 42961c86, storage/crypt4gh/decrypt.go) reads each segment by one Read and takes what comes for a whole
segment; what it then cannot decrypt it leaves out with a warning, and what comes together with the end it leaves out
silently: the task runs on a shorter or an empty file and ends COMPLETE. Go's reader of chunked bodies returns from Read
when the buffer is full or the chunk ends. So here the header is one HTTP chunk, each segment is one, and the end is not
sent before Funnel has taken the last segment from its socket, which the kernel knows (both ends are in this network
namespace: one machine's, or one pod's).

It also panics on any status but 200, and with it all tasks of the node die: such an answer becomes a cut connection,
which fails the one task. A gateway that is away (it may restart) is waited for, as a task that failed for that would
have to be made anew.

And it reads on after a segment that does not open, ignores edit lists, and panics at small packets. So with the node's
key every segment is opened here and the file is written anew for the same key, in the plainest form: what does not open
cuts the connection, and what an edit list leaves out does not come (decision 761). Without the key only the framing is
looked at.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import ssl
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import httpx

from gdi.funnel import slices
from gdi.funnel.crypt4gh import MAC, MAGIC, MAX_HEADER, NONCE, SEALED, Body, DamagedError, Key, Plainest, packets
from gdi.kit.retry import RetryPolicy, acall_again
from gdi.kit.tls import authorities

log = logging.getLogger(__name__)
SEGMENT = SEALED
MAX_HEAD = 64 * 1024
PASSED_ON = ("authorization", "client-public-key", "range")
TIMEOUT = httpx.Timeout(60, connect=10)
TAKEN_WITHIN = 3600.0
AWAY = 120.0  # seconds for which a gateway that does not answer is waited for


class CutError(Exception):
    """The source ended within a header or a segment, or said something impossible: the connection ends without the last
    chunk, so Funnel sees an error.
    """


@dataclass(frozen=True)
class Upstream:
    """A gateway's internal listener over TCP; `tls` with a client certificate where it asks for one (mTLS)."""

    url: str
    tls: ssl.SSLContext | None = None


async def serve(port: int, source: Path | Upstream, key: Key | None = None) -> asyncio.Server:
    """Listens on 127.0.0.1:`port` in place of the server behind the unix socket or URL `source`; one GET for each
    connection. `key`: the one that the files are encrypted to.
    """

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.transport.set_write_buffer_limits(high=0)  # drain() waits until the kernel has it all
        try:
            await _handle(reader, writer, source, key)
            writer.close()
        except (
            CutError,
            slices.SliceError,
            OSError,
            httpx.HTTPError,
            ValueError,
            TimeoutError,
            asyncio.IncompleteReadError,
            asyncio.LimitOverrunError,
        ) as error:
            named = isinstance(error, (CutError, DamagedError, slices.SliceError))
            log.warning("a transfer was cut: %s", error if named else type(error).__name__)
            writer.transport.abort()

    return await asyncio.start_server(accept, "127.0.0.1", port, limit=MAX_HEAD)


def _client(source: Path | Upstream) -> httpx.AsyncClient:
    if isinstance(source, Path):
        return httpx.AsyncClient(
            base_url="http://gateway",
            transport=httpx.AsyncHTTPTransport(uds=str(source), verify=authorities()),
            timeout=TIMEOUT,
            trust_env=False,
        )
    return httpx.AsyncClient(base_url=source.url, verify=source.tls or authorities(), timeout=TIMEOUT, trust_env=False)


async def _handle(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, source: Path | Upstream, key: Key | None
) -> None:
    head = (await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 60)).decode("latin-1").split("\r\n")
    method, target, _ = head[0].split(" ", 2)
    sent = dict(line.split(": ", 1) for line in head[1:] if ": " in line)
    headers = {k: v for k, v in sent.items() if k.lower() in PASSED_ON} | {"Accept-Encoding": "identity"}
    async with _client(source) as client:

        async def send(request: httpx.Request) -> httpx.Response:
            return await _answer(client, request, reader)

        if slices.is_slice(target):
            await _slice(writer, client, send, target, headers, key)
        else:
            url = client.base_url.copy_with(raw_path=target.encode("latin-1"))
            async with contextlib.aclosing(await send(client.build_request(method, url, headers=headers))) as answer:
                await _file(writer, answer, target, key)


async def _slice(
    writer: asyncio.StreamWriter,
    client: httpx.AsyncClient,
    send: slices.Send,
    target: str,
    headers: dict[str, str],
    key: Key | None,
) -> None:
    """htsget: a ticket of one block, or that block."""
    if not target.startswith(slices.WHOLE):
        port = writer.get_extra_info("sockname")[1]
        writer.write(await slices.own_ticket(client, send, target, headers, port))
        await writer.drain()
        return
    async with contextlib.aclosing(slices.blocks(client, send, target, headers)) as chunks:
        body = _Parts(chunks)
        start = await body.exactly(len(MAGIC), short=True)
        # Funnel takes 206 only.
        head = ("HTTP/1.1 206 Partial Content", "Transfer-Encoding: chunked", "Connection: close", "", "")
        writer.write("\r\n".join(head).encode())
        whole = _framed(start, body, key, target) if start == MAGIC else _plain(start, body)
        await _chunks(writer, whole)


async def _plain(start: bytes, body: _Parts) -> AsyncIterator[bytes]:
    """What an operator lets pass without Crypt4GH."""
    while start:
        yield start
        start = await body.exactly(SEGMENT, short=True)


async def _file(writer: asyncio.StreamWriter, answer: httpx.Response, target: str, key: Key | None) -> None:
    """One whole file, or what the gateway says instead."""
    if answer.status_code != 200:
        raise CutError(f"the gateway answered {answer.status_code}")
    kept = [f"{n}: {v}" for n, v in answer.headers.items() if n.lower() in ("content-type", "etag", "last-modified")]
    body = _Parts(answer.aiter_raw(64 * 1024))
    start = await body.exactly(len(MAGIC), short=True)
    status = f"HTTP/1.1 {answer.status_code} {answer.reason_phrase}"
    if start != MAGIC:
        rest = start + await body.exactly(MAX_HEADER, short=True)
        if await body.exactly(1, short=True):
            raise CutError(f"what is no Crypt4GH file may have {MAX_HEADER} bytes here, and this has more")
        writer.write(
            "\r\n".join([status, *kept, f"Content-Length: {len(rest)}", "Connection: close", "", ""]).encode("latin-1")
            + rest
        )
        await writer.drain()
        return
    writer.write(
        "\r\n".join([status, *kept, "Transfer-Encoding: chunked", "Connection: close", "", ""]).encode("latin-1")
    )
    await _chunks(writer, _framed(start, body, key, target))


async def _answer(client: httpx.AsyncClient, request: httpx.Request, reader: asyncio.StreamReader) -> httpx.Response:
    """The gateway's answer, its body still to be read. httpx.TransportError where the gateway stays away, or Funnel
    hung up meanwhile.
    """
    return await acall_again(
        lambda: client.send(request, stream=True),
        RetryPolicy(total=AWAY, first=0.2, longest=3, factor=1.5, jitter=(1, 1)),
        again=lambda failure: isinstance(failure.error, httpx.TransportError) and not reader.at_eof(),
    )


async def _framed(start: bytes, body: _Parts, key: Key | None, target: str) -> AsyncIterator[bytes]:
    """The Crypt4GH header as one part, then each segment as one; the last one may be shorter. CutError naming
    `target`.
    """
    header = start + await body.exactly(8)
    for _ in range(int.from_bytes(header[12:16], "little")):
        length = await body.exactly(4)
        size = int.from_bytes(length, "little")
        if size < 4 or len(header) + size > MAX_HEADER:
            raise CutError(f"{target}: the Crypt4GH header is damaged or longer than {MAX_HEADER} bytes")
        header += length + await body.exactly(size - 4)
    if key is None:
        yield header
        while segment := await body.exactly(SEGMENT, short=True):
            if len(segment) < NONCE + MAC:
                raise CutError(f"{target}: {len(segment)} bytes follow the last segment")
            yield segment
        return
    try:
        opened, anew = Body(packets(header)[0], key), Plainest(key)
        yield anew.header
        while segment := await body.exactly(SEGMENT, short=True):
            for part in anew.seal(opened.open(segment)):
                yield part
        opened.end()
    except DamagedError as error:
        raise CutError(f"{target}: {error}") from None
    for part in anew.end():
        yield part


async def _chunks(writer: asyncio.StreamWriter, parts: AsyncIterator[bytes]) -> None:
    end = b""
    async for part in parts:
        writer.write(end + f"{len(part):x}\r\n".encode() + part)
        await writer.drain()
        end = b"\r\n"
    await _taken(writer)
    writer.write(end + b"0\r\n\r\n")
    await writer.drain()


async def _taken(writer: asyncio.StreamWriter) -> None:
    """Waits until nothing lies in the kernel any more, neither at this end nor at the reader's."""
    here = writer.get_extra_info("sockname")[1]
    there = writer.get_extra_info("peername")[1]
    async with asyncio.timeout(TAKEN_WITHIN):
        while True:
            queued = _queued(here, there)
            if queued is None or writer.is_closing():
                raise CutError
            if queued == 0:
                return
            await asyncio.sleep(0.005)


def _queued(here: int, there: int) -> int | None:
    """Bytes between the two ends of a loopback connection, from /proc/net/tcp (tx_queue of ours, rx_queue of theirs);
    None where it is gone.
    """
    ours = theirs = None
    for line in Path("/proc/self/net/tcp").read_text().splitlines()[1:]:
        _, local, remote, state, queues, *_ = line.split()
        ports = int(local.rpartition(":")[2], 16), int(remote.rpartition(":")[2], 16)
        sending, receiving = (int(q, 16) for q in queues.split(":"))
        if state == "01" and ports == (here, there):
            ours = sending
        elif state == "01" and ports == (there, here):
            theirs = receiving
    return None if ours is None or theirs is None else ours + theirs


class _Parts:
    """A body read in parts of a wanted length."""

    def __init__(self, chunks: AsyncIterator[bytes]) -> None:
        self._chunks = chunks
        self._buffer = bytearray()

    async def exactly(self, count: int, *, short: bool = False) -> bytes:
        while len(self._buffer) < count:
            try:
                self._buffer += await anext(self._chunks)
            except StopAsyncIteration:
                if short:
                    break
                raise CutError from None
        part = bytes(self._buffer[:count])
        del self._buffer[:count]
        return part


async def stop(server: asyncio.Server) -> None:
    server.close()
    with contextlib.suppress(OSError, TimeoutError):
        await asyncio.wait_for(server.wait_closed(), 2)
