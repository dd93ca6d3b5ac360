"""Another server's answer, read only so far: one that is wrong or taken over is not to fill this process."""

from __future__ import annotations

import zlib
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator
from typing import Any

import httpx

MAX_ANSWER = 64 * 1024 * 1024  # bytes of an answer that is read whole, unless its client says otherwise
PIECE = 256 * 1024  # bytes that are decompressed at once: a few hundred bytes may stand for gigabytes
ANY_ZLIB = 47  # zlib's word for gzip or zlib, whichever it is
CODINGS = {"Accept-Encoding": "gzip"}  # what a client asks for whose answers are read here


class TooLargeError(httpx.ReadError, ValueError):
    """The answer's body is larger than it may be. For whoever treats a server's failures alike it is one of them."""

    def __init__(self, most: int, request: httpx.Request | None = None) -> None:
        super().__init__(f"the answer is larger than {most} bytes", request=request)


async def acollect(parts: AsyncIterable[bytes], most: int, request: httpx.Request | None = None) -> bytes:
    """All of `parts` together. TooLargeError beyond `most` bytes."""
    body = bytearray()
    async for part in parts:
        body += part
        if len(body) > most:
            raise TooLargeError(most, request)
    return bytes(body)


def collect(parts: Iterable[bytes], most: int, request: httpx.Request | None = None) -> bytes:
    """`acollect` without an event loop."""
    body = bytearray()
    for part in parts:
        body += part
        if len(body) > most:
            raise TooLargeError(most, request)
    return bytes(body)


async def afirst(parts: AsyncIterable[bytes], most: int) -> bytes:
    """The first `most` bytes of `parts`; the rest is not read."""
    body = bytearray()
    async for part in parts:
        body += part
        if len(body) >= most:
            break
    return bytes(body[:most])


def first(parts: Iterable[bytes], most: int) -> bytes:
    """`afirst` without an event loop."""
    body = bytearray()
    for part in parts:
        body += part
        if len(body) >= most:
            break
    return bytes(body[:most])


class _Inflater:
    """Takes an answer's bytes as they came, gives them decompressed, `PIECE` bytes at most at a time. httpx does as
    many codings one after the other as the answer names, each part at once, before anybody can look at its size.
    """

    def __init__(self, answer: httpx.Response) -> None:
        coding = answer.headers.get("content-encoding", "").strip().lower()
        if coding not in ("", "identity", "gzip", "x-gzip", "deflate"):
            raise httpx.DecodingError(
                f"an answer in {coding[:40]!r} is not read: gzip, or none", request=answer.request
            )
        self._request = answer.request
        self._zlib = zlib.decompressobj(ANY_ZLIB) if coding not in ("", "identity") else None

    def pieces(self, part: bytes) -> Iterator[bytes]:
        if self._zlib is None:
            yield part
            return
        while part and not self._zlib.eof:  # what comes after the end zlib would keep, all of it
            try:
                piece = self._zlib.decompress(part, PIECE)
            except zlib.error as error:
                raise httpx.DecodingError(f"the answer is no gzip: {error}", request=self._request) from None
            part = self._zlib.unconsumed_tail
            if piece:
                yield piece

    def end(self) -> bytes:
        return b"" if self._zlib is None else self._zlib.flush()


async def aparts(answer: httpx.Response) -> AsyncIterator[bytes]:
    """The body of a streamed answer, decompressed, in small pieces. httpx.HTTPError, httpx.DecodingError where it has
    another coding than gzip, or more than one.
    """
    if answer.is_stream_consumed:  # it was read already
        yield answer.content
        return
    inflater = _Inflater(answer)
    async for part in answer.aiter_raw():
        for piece in inflater.pieces(part):
            yield piece
    if last := inflater.end():
        yield last


def parts_of(answer: httpx.Response) -> Iterator[bytes]:
    """`aparts` for a client without an event loop."""
    if answer.is_stream_consumed:
        yield answer.content
        return
    inflater = _Inflater(answer)
    for part in answer.iter_raw():
        yield from inflater.pieces(part)
    if last := inflater.end():
        yield last


async def aread(answer: httpx.Response, most: int) -> bytes:
    """The body of a streamed answer, decompressed. TooLargeError beyond `most` bytes, httpx.HTTPError."""
    return await acollect(aparts(answer), most, answer.request)


def read(answer: httpx.Response, most: int) -> bytes:
    """`aread` for a client without an event loop."""
    return collect(parts_of(answer), most, answer.request)


def lines(answer: httpx.Response, most: int) -> Iterator[bytes]:
    """The lines of a streamed answer as they come, without their ends and without empty ones. TooLargeError for a line
    of more than `most` bytes.
    """
    rest = b""
    for part in parts_of(answer):
        *whole_lines, rest = (rest + part).split(b"\n")
        if max(map(len, (rest, *whole_lines))) > most:
            raise TooLargeError(most, answer.request)
        yield from filter(None, map(bytes.strip, whole_lines))
    if rest.strip():
        yield rest.strip()


def whole(answer: httpx.Response, body: bytes) -> httpx.Response:
    """A streamed answer with its body, as if it had been read at once."""
    framing = ("content-encoding", "transfer-encoding")  # the body is decompressed already
    headers = [(name, value) for name, value in answer.headers.multi_items() if name not in framing]
    found = httpx.Response(
        answer.status_code, headers=headers, content=body, request=answer.request, history=answer.history
    )
    if body and "content-encoding" in answer.headers:
        found.headers["content-length"] = str(len(body))
    return found


class BoundedClient(httpx.Client):
    """httpx's client whose answers have at most `max_answer` bytes: TooLargeError. Whoever uses `stream` reads with
    `read`.
    """

    def __init__(self, *, max_answer: int = MAX_ANSWER, **options: Any) -> None:  # httpx's own arguments
        super().__init__(**options)
        self.headers.update(CODINGS)
        self._max_answer = max_answer

    def send(self, request: httpx.Request, *, stream: bool = False, **options: Any) -> httpx.Response:
        answer = super().send(request, stream=True, **options)
        if stream:
            return answer
        try:
            return whole(answer, read(answer, self._max_answer))
        finally:
            answer.close()


class BoundedAsyncClient(httpx.AsyncClient):
    """`BoundedClient` for an event loop."""

    def __init__(self, *, max_answer: int = MAX_ANSWER, **options: Any) -> None:  # httpx's own arguments
        super().__init__(**options)
        self.headers.update(CODINGS)
        self._max_answer = max_answer

    async def send(self, request: httpx.Request, *, stream: bool = False, **options: Any) -> httpx.Response:
        answer = await super().send(request, stream=True, **options)
        if stream:
            return answer
        try:
            return whole(answer, await aread(answer, self._max_answer))
        finally:
            await answer.aclose()
