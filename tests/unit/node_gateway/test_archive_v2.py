"""SDA's download API v2, as its own description has it: pages, files by id, one key header, problem+json."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from fastapi import FastAPI, Request
from starlette.responses import JSONResponse, Response, StreamingResponse

from gdi.contracts.urls import SdaUrl
from node_gateway import resumption
from node_gateway.archive_v2 import SdaV2Client
from node_gateway.downloads import SdaRefusal
from node_gateway.keys import PublicKey
from node_gateway.listed_files import Files
from tests.support.gateway_world import KEY, Server, c4gh
from tests.support.wire import FAULT, bind
from tests.support.wires import SDA_V2

FILE = SdaUrl.of("DS/1", "a/cohort.vcf.gz.c4gh")
SIZE = 900_000
HEADER = 16 + 108


class ArchiveV2:
    """`faults`: what is done otherwise."""

    def __init__(self) -> None:
        self.body = c4gh(SIZE)
        self.faults: set[str] = set()
        self.requests: list[tuple[str, str]] = []
        self.app = bind(FastAPI(), SDA_V2)
        self.app.add_api_route("/v2/datasets", self.datasets, methods=["GET"])
        self.app.add_api_route("/v2/datasets/{dataset:path}/files", self.files, methods=["GET"])
        self.app.add_api_route("/v2/files/{file_id}", self.file, methods=["GET", "HEAD"])
        self.app.add_api_route("/v2/files/{file_id}/content", self.content, methods=["GET"])

    def refused(self, request: Request) -> Response | None:
        self.requests.append((request.url.path, request.headers.get("authorization", "")))
        if "token" in self.faults:
            return problem(401, "The token has expired.")
        return None

    async def datasets(self, request: Request, pageToken: str = "") -> Any:
        if "endless" in self.faults:
            return {"datasets": ["x"], "nextPageToken": pageToken + "x"[: 1 - len(pageToken)]}
        shown = ["DS/1"] if pageToken else ["OTHER"]
        return self.refused(request) or {"datasets": shown, "nextPageToken": None if pageToken else "next"}

    async def files(self, request: Request, dataset: str, pageSize: int, pageToken: str = "") -> Any:
        assert pageSize == 1000
        if answer := self.refused(request):
            return answer
        if dataset != "DS/1" or "withdrawn" in self.faults:
            return problem(403, "No access, token Bearer abcdefghijklmnop.")
        if "no-list" in self.faults:
            return JSONResponse({"files": None}, headers={FAULT: "1"})
        entry = {"fileId": "urn:f:1", "filePath": "a/cohort.vcf.gz.c4gh", "size": 1, "decryptedSize": SIZE}
        entry["checksums"] = [{"type": "md5", "checksum": "0" * 32}, {"type": "SHA256", "checksum": "a" * 64}]
        other = {**entry, "fileId": "urn:f:0", "filePath": "b.c4gh"}
        if pageToken:  # one entry, and one that is none
            return JSONResponse({"files": [entry, 7], "nextPageToken": None}, headers={FAULT: "1"})
        return {"files": [other], "nextPageToken": "p2"}

    async def file(self, request: Request, file_id: str) -> Response:
        if answer := self.refused(request):
            return answer
        if "client-public-key" in request.headers or "htsget-context-public-key" in request.headers:
            return problem(400, "KEY_CONFLICT")
        if file_id != "urn:f:1":
            return problem(403, "No access.")
        headers = {"Content-Length": str(len(self.body)), "ETag": f'"{"b" * 64}"', "Accept-Ranges": "bytes"}
        if "cut" in self.faults:
            return StreamingResponse(iter([self.body[:600_000]]), headers=headers)
        return Response(self.body, headers=headers)

    async def content(self, request: Request, file_id: str) -> Response:
        self.requests.append((request.url.path, request.headers["authorization"]))
        assert file_id == "urn:f:1" and "x-c4gh-public-key" not in request.headers
        start, body = int(request.headers["range"].removeprefix("bytes=").removesuffix("-")), self.body[HEADER:]
        found = {"Content-Range": f"bytes {start}-{len(body) - 1}/{len(body)}"}
        return Response(body[start:], 206, headers=found)


def problem(status: int, detail: str) -> Response:
    content = {"title": "Refused", "status": status, "detail": detail, "errorCode": "X"}
    return JSONResponse(content, status, media_type="application/problem+json")


@pytest.fixture(scope="module")
def served() -> Iterator[tuple[ArchiveV2, str]]:
    archive = ArchiveV2()
    server = Server(archive.app)
    yield archive, server.url + "/v2"
    server.stop()


@pytest.fixture
async def client(served: tuple[ArchiveV2, str], monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[SdaV2Client]:
    served[0].faults.clear()
    served[0].requests.clear()
    monkeypatch.setattr(resumption, "PAUSE", 0.01)
    made = SdaV2Client(served[1], prefix="s3", key=PublicKey.from_pem(KEY))
    yield made
    await made.aclose()


async def test_pages_are_read_to_their_end(client: SdaV2Client) -> None:
    assert await client.datasets("t") == {"OTHER", "DS/1"}
    found = await client.files("DS/1", "t")
    assert [(f.path, f.id, f.size, f.checksum) for f in found] == [
        ("b.c4gh", "urn:f:0", SIZE, "a" * 64),
        (FILE.path, "urn:f:1", SIZE, "a" * 64),
    ]


async def opened(client: SdaV2Client, served: tuple[ArchiveV2, str]) -> bytes:
    files = Files("DS/1", await client.files("DS/1", "t"))
    listed = files.of_path(FILE.path)
    assert listed is not None
    tokens = iter("123456789")

    async def fresh() -> str:
        return next(tokens)

    download = await client.open(FILE, listed, files, "t", fresh=fresh)
    assert download.headers == {"content-length": str(len(served[0].body))}, "its ETag is no checksum of the file"
    try:
        return b"".join([chunk async for chunk in download.chunks])
    finally:
        await download.close()


async def test_a_file_comes_by_its_id_and_goes_on_by_its_segments(
    client: SdaV2Client, served: tuple[ArchiveV2, str]
) -> None:
    archive = served[0]
    assert await opened(client, served) == archive.body
    archive.faults.add("cut")
    assert await opened(client, served) == archive.body
    assert archive.requests[-1] == ("/v2/files/urn:f:1/content", "Bearer 1"), "with a token of its own"
    archive.body = c4gh(SIZE + 5)
    with pytest.raises(SdaRefusal, match="5 bytes more than the archive lists"):
        await opened(client, served)
    archive.body = c4gh(SIZE)


@pytest.mark.parametrize(
    ("fault", "kind", "why"),
    [
        ("withdrawn", "AccessDenied", "DS/1 is not"),
        ("token", "ArchiveError", "has expired"),
        ("no-list", "ArchiveError", "no list of files"),
    ],
)
async def test_what_is_refused_is_told_with_its_reason(
    client: SdaV2Client, served: tuple[ArchiveV2, str], fault: str, kind: str, why: str
) -> None:
    served[0].faults.add(fault)
    with pytest.raises(SdaRefusal, match=why) as refused:
        await client.files("DS/1", "t")
    assert refused.value.error_class == kind and "abcdefgh" not in refused.value.reason


async def test_pages_that_do_not_end_are_an_error(client: SdaV2Client, served: tuple[ArchiveV2, str]) -> None:
    served[0].faults.add("endless")
    with pytest.raises(SdaRefusal, match="do not end"):
        await client.datasets("t")


async def test_a_server_that_is_away_is_not_alive() -> None:
    away = SdaV2Client("http://127.0.0.1:9", prefix="s3", key=PublicKey.from_pem(KEY))
    assert not await away.alive()
    with pytest.raises(SdaRefusal, match="does not answer"):
        await away.datasets("t")
    await away.aclose()
