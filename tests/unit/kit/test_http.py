"""Answers of bounded size, and bearer tokens from one source: over httpx, in process."""

from __future__ import annotations

import gzip
import random
import tracemalloc
import zlib
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import httpx
import pytest

from gdi.kit.bearer import BearerAuth, token_file
from gdi.kit.bounded_read import PIECE, BoundedAsyncClient, BoundedClient, TooLargeError, first, lines, parts_of


def server(request: httpx.Request) -> httpx.Response:
    match request.url.path:
        case "/bomb":
            packed = gzip.compress(b"0" * 1_000_000)
            return httpx.Response(200, headers={"content-encoding": "gzip"}, content=packed)
        case "/packed":
            return httpx.Response(
                201, headers={"content-encoding": "gzip", "x-a": "1"}, content=gzip.compress(b'{"a": 1}')
            )
        case "/head":
            return httpx.Response(200, headers={"content-length": "123456"})
        case "/large":
            return httpx.Response(200, content=b"x" * 1001)
        case _:
            return httpx.Response(200, content=b"x" * 1000)


TRANSPORT = httpx.MockTransport(server)


def test_an_answer_above_the_bound_is_a_failed_read_and_a_smaller_one_is_whole() -> None:
    with BoundedClient(base_url="http://t", transport=TRANSPORT, max_answer=1000) as client:
        assert len(client.get("/").content) == 1000
        for path in ("/large", "/bomb"):
            with pytest.raises(TooLargeError, match="larger than 1000 bytes") as caught:
                client.get(path)
            assert isinstance(caught.value, httpx.TransportError) and caught.value.request.url.path == path
        packed = client.get("/packed")
        assert (packed.status_code, packed.json(), packed.headers["x-a"]) == (201, {"a": 1}, "1")
        assert client.head("/head").headers["content-length"] == "123456"
        with client.stream("GET", "/large") as answer:
            assert first(answer.iter_bytes(100), 250) == b"x" * 250


async def test_the_same_holds_on_an_event_loop() -> None:
    async with BoundedAsyncClient(base_url="http://t", transport=TRANSPORT, max_answer=1000) as client:
        assert len((await client.get("/")).content) == 1000
        with pytest.raises(TooLargeError):
            await client.get("/bomb")


class Parts(httpx.SyncByteStream):
    def __init__(self, *parts: bytes) -> None:
        self.parts = parts

    def __iter__(self) -> Iterator[bytes]:
        return iter(self.parts)


def nested(codings: int, size: int) -> bytes:
    """Zeros, packed so often."""
    packer = zlib.compressobj(9, wbits=31)
    body = b"".join(packer.compress(bytes(1 << 20)) for _ in range(size >> 20)) + packer.flush()
    for _ in range(codings - 1):
        body = gzip.compress(body)
    return body


class Wire(httpx.SyncByteStream, httpx.AsyncByteStream):
    """A body that comes as from a connection: nothing of it is read before it is asked for."""

    def __init__(self, body: bytes) -> None:
        self.body = body

    def __iter__(self) -> Iterator[bytes]:
        yield self.body

    async def __aiter__(self) -> AsyncIterator[bytes]:
        yield self.body


def coded(coding: str, body: bytes) -> httpx.MockTransport:
    return httpx.MockTransport(
        lambda request: httpx.Response(200, headers={"content-encoding": coding} if coding else {}, stream=Wire(body))
    )


@pytest.mark.parametrize(
    ("coding", "body", "why"),
    [
        ("gzip", nested(1, 1 << 28), "larger than 1000 bytes"),
        ("x-gzip", nested(1, 1 << 28), "larger than 1000 bytes"),
        ("gzip, gzip", nested(2, 1 << 28), "'gzip, gzip' is not read: gzip, or none"),
        ("br", b"0", "'br' is not read"),
        ("zstd", b"0", "'zstd' is not read"),
        ("gzip", b"no gzip at all", "is no gzip"),
    ],
)
async def test_a_small_answer_that_stands_for_gigabytes_takes_no_memory(coding: str, body: bytes, why: str) -> None:
    """256 MiB of zeros are 260 kB of gzip, and 800 bytes of gzip of gzip: httpx unpacked all of it before the bound."""
    tracemalloc.start()
    try:
        client = BoundedClient(base_url="http://t", transport=coded(coding, body), max_answer=1000)
        with client, pytest.raises(httpx.HTTPError, match=why):
            client.get("/")
        other = BoundedAsyncClient(base_url="http://t", transport=coded(coding, body), max_answer=1000)
        async with other:
            with pytest.raises(httpx.HTTPError, match=why):
                await other.get("/")
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 8_000_000


class Tailed(Wire):
    """With 64 MiB after its end."""

    def __iter__(self) -> Iterator[bytes]:
        yield self.body
        yield from [bytes(1 << 20)] * 64


def test_what_comes_after_an_answers_end_takes_no_memory() -> None:
    headers = {"content-encoding": "gzip"}
    transport = httpx.MockTransport(lambda _: httpx.Response(200, headers=headers, stream=Tailed(gzip.compress(b"x"))))
    tracemalloc.start()
    try:
        with BoundedClient(base_url="http://t", transport=transport, max_answer=1000) as client:
            assert client.get("/").content == b"x"
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 8_000_000


@pytest.mark.parametrize(("coding", "wbits"), [("gzip", 31), ("deflate", 15), ("identity", 0), ("", 0)])
async def test_an_honest_coding_is_read_piece_by_piece(coding: str, wbits: int) -> None:
    plain = random.Random(1).randbytes(3_000_000)
    packer = zlib.compressobj(6, wbits=wbits) if wbits else None
    body = packer.compress(plain) + packer.flush() if packer else plain
    with BoundedClient(base_url="http://t", transport=coded(coding, body)) as client:
        answer = client.get("/")
        assert answer.content == plain and "content-encoding" not in answer.headers
        assert answer.request.headers["accept-encoding"] == "gzip"
        with client.stream("GET", "/") as streamed:
            pieces = list(parts_of(streamed))
    assert b"".join(pieces) == plain and (not wbits or max(map(len, pieces)) <= PIECE)
    async with BoundedAsyncClient(base_url="http://t", transport=coded(coding, body)) as other:
        assert (await other.get("/")).content == plain


def test_lines_come_whole_and_one_without_end_is_refused() -> None:
    def answer(*parts: bytes) -> httpx.Response:
        return httpx.Response(200, stream=Parts(*parts), request=httpx.Request("GET", "http://t"))

    assert list(lines(answer(b"a", b"b\n\ncd\r\ne", b"f"), 10)) == [b"ab", b"cd", b"ef"]
    with pytest.raises(TooLargeError):
        list(lines(answer(*[b"xxxx"] * 100), 10))


class Renewing:
    """A source whose first token is refused by the server."""

    scheme = "Bearer"

    async def token(self, *, refused: str | None = None) -> str:
        return "new" if refused == "old" else "old"


class Nothing:
    scheme = ""

    async def token(self, *, refused: str | None = None) -> str:
        return ""


def picky(request: httpx.Request) -> httpx.Response:
    sent = request.headers.get("authorization", "nothing")
    return httpx.Response(401 if sent == "Bearer old" else 200, text=sent)


def test_a_tokens_file_is_read_at_each_request(tmp_path: Path) -> None:
    file = tmp_path / "token"
    with httpx.Client(
        base_url="http://t", transport=httpx.MockTransport(picky), auth=BearerAuth(token_file(file))
    ) as c:
        for value in ("one", "two"):
            file.write_text(value + "\n")
            assert c.get("/").text == f"Bearer {value}"
        file.unlink()
        with pytest.raises(FileNotFoundError):
            c.get("/")
    transport = httpx.MockTransport(picky)
    with (
        httpx.Client(base_url="http://t", transport=transport, auth=BearerAuth(Renewing())) as c,
        pytest.raises(RuntimeError, match="asynchronous"),
    ):
        c.get("/")


async def test_a_refused_token_is_replaced_once() -> None:
    for source, sent in ((Renewing(), "Bearer new"), (Nothing(), "nothing"), (lambda: "given", "Bearer given")):
        async with httpx.AsyncClient(
            base_url="http://t", transport=httpx.MockTransport(picky), auth=BearerAuth(source)
        ) as client:
            assert (await client.get("/")).text == sent
