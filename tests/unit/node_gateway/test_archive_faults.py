"""An archive that breaks off, or of which a server is down: what goes on, and what is never taken for the rest."""

from __future__ import annotations

from collections.abc import AsyncIterator

import httpx
import pytest

from node_gateway import resumption
from node_gateway.upstream import SeveralServers, client

BODY = bytes(range(256)) * 40


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resumption, "PAUSE", 0.0)


async def cut(data: bytes) -> AsyncIterator[bytes]:
    yield data
    raise httpx.ReadError("cut")


class Rest:
    """Answers a range with `status`, or otherwise; each answer has at most `most` bytes and then breaks off."""

    def __init__(self, *, most: int = 10**9, status: int = 206, content_range: str = "", etag: str = '"e"') -> None:
        self.asked: list[int] = []
        self._most, self._status, self._range, self._etag = most, status, content_range, etag

    async def __call__(self, start: int) -> httpx.Response | None:
        self.asked.append(start)
        part = BODY[start : start + self._most]

        async def body() -> AsyncIterator[bytes]:
            yield part
            if start + len(part) < len(BODY):
                raise httpx.ReadError("cut again")

        found = {"content-range": self._range or f"bytes {start}-{len(BODY) - 1}/{len(BODY)}", "etag": self._etag}
        answer = httpx.Response(self._status, headers=found, content=body())
        return await resumption.rest(answer, start, len(BODY), '"e"')


async def read(rest: Rest, first: int, *, header: int | None = 124) -> bytes:
    return b"".join([c async for c in resumption.resumed(cut(BODY[:first]), header, rest)])


async def test_it_goes_on_as_often_as_some_bytes_come() -> None:
    rest = Rest(most=1000)
    assert await read(rest, 500) == BODY
    assert rest.asked[0] == 500 and len(rest.asked) == 10


@pytest.mark.parametrize(
    "rest",
    [
        Rest(status=200),
        Rest(status=416),
        Rest(content_range=f"bytes 501-{len(BODY) - 1}/{len(BODY)}"),
        Rest(content_range=f"bytes 500-{len(BODY) - 1}/{len(BODY) + 1}"),
        Rest(content_range="nonsense"),
        Rest(etag='"another"'),
        Rest(most=0),
    ],
    ids=["whole", "unsatisfiable", "other-start", "other-length", "nonsense", "other-file", "no-bytes"],
)
async def test_what_is_not_the_rest_is_never_taken_for_it(rest: Rest) -> None:
    with pytest.raises(httpx.ReadError):
        await read(rest, 500)
    assert len(rest.asked) == resumption.TRIES


@pytest.mark.parametrize(("first", "header"), [(100, 124), (500, None)], ids=["within-the-header", "no-header-length"])
async def test_without_what_tells_the_place_it_stays_broken(first: int, header: int | None) -> None:
    rest = Rest()
    with pytest.raises(httpx.ReadError):
        await read(rest, first, header=header)
    assert not rest.asked


class Servers(httpx.AsyncBaseTransport):
    def __init__(self) -> None:
        self.down: dict[str, int | type[httpx.TransportError]] = {}
        self.asked: list[str] = []

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self.asked.append(str(request.url))
        assert request.headers["host"] == request.url.netloc.decode()
        fault = self.down.get(request.url.host, 200)
        if isinstance(fault, int):
            return httpx.Response(fault, text=request.url.host)
        raise fault("down")


async def test_another_server_of_the_archive_answers_where_one_is_down() -> None:
    servers = Servers()
    urls = ["http://a/v1", "http://b:81/deep/v1"]
    async with httpx.AsyncClient(transport=SeveralServers(servers, urls), base_url="http://a/v1") as http:
        assert (await http.get("/files/x?y=%2F")).text == "a"
        for fault in (503, httpx.ConnectError):
            servers.down = {"a": fault}
            assert (await http.get("/files/x?y=%2F")).text == "b"
        assert servers.asked[:3] == ["http://a/v1/files/x?y=%2F"] * 2 + ["http://b:81/deep/v1/files/x?y=%2F"]
        assert len(servers.asked) == 4, "the one that was down is not asked first again"
        servers.down = {"a": 403, "b": 403}
        assert (await http.get("/files/x")).status_code == 403, "a refusal is an answer"
        servers.down = {"a": 503, "b": httpx.ConnectError}
        assert (await http.get("/files/x")).status_code == 503
        servers.down = {"a": httpx.ConnectError, "b": httpx.ConnectError}
        with pytest.raises(httpx.ConnectError):
            await http.get("/files/x")
    async with client("http://127.0.0.1:9") as alone:
        with pytest.raises(httpx.ConnectError):
            await alone.get("/")
