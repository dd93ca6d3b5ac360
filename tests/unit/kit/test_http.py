"""Answers of bounded size, and bearer tokens from one source: over httpx, in process."""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from gdi.kit.bearer import BearerAuth, token_file
from gdi.kit.bounded_read import BoundedAsyncClient, BoundedClient, TooLargeError, first, lines


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
