"""The download API, version 1: `/metadata/…`, `/files/…`, `/s3/…`, `/s3-encrypted/…`, with SDA's own plain-text errors.
Streams; holds no file in memory.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import logging
from collections import OrderedDict
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from email.utils import formatdate
from itertools import chain
from xml.sax.saxutils import escape

from fastapi import FastAPI, Query, Request
from fastapi.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse

from gdi.kit import server
from gdi.local_federation.sda.access import AccessCheck, DownloadDenied
from gdi.local_federation.sda.archive import Archive, ArchiveEntry
from gdi.local_federation.sda.config import SdaConfig, SdaFault, faults
from gdi.local_federation.sda.crypt import Crypt4ghFile, NotCrypt4GH, public_key
from gdi.local_federation.sda.ranges import Span, Unsatisfiable, span

log = logging.getLogger(__name__)
KEY_HEADERS = ("x-c4gh-public-key", "client-public-key")  # as SDA's v2 and v1 name it
MAX_BODY = 4096  # nobody sends this service anything


def create_app(config: SdaConfig) -> FastAPI:
    archive, access = Archive(config.archive, config.key_file), AccessCheck(config)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        await access.aclose()

    app = FastAPI(title="SDA download stand-in", docs_url=None, redoc_url=None, openapi_url=None, lifespan=lifespan)
    server.install(app, max_body=MAX_BODY)
    service = SdaService(config, archive, access)

    async def on_denied(_: Request, error: Exception) -> Response:
        assert isinstance(error, DownloadDenied)
        return PlainTextResponse(error.text, error.status)

    app.add_exception_handler(DownloadDenied, on_denied)

    @app.api_route("/health", methods=["GET", "HEAD"])
    async def health() -> Response:
        return Response(status_code=200)

    @app.get("/metadata/datasets")
    async def datasets(request: Request) -> Response:
        granted = await access.datasets(request.headers)
        return JSONResponse([d for d in archive.datasets() if d in granted])

    @app.get("/metadata/datasets/{dataset:path}/files")
    async def files(request: Request, dataset: str, scheme: str = Query(default="", max_length=20)) -> Response:
        granted = await access.datasets(request.headers)
        identifier = f"{scheme}://{dataset}" if scheme else dataset
        if identifier not in granted or identifier not in archive.datasets():
            raise DownloadDenied(404, "dataset not found")
        return JSONResponse(await asyncio.to_thread(archive.listing, identifier))

    @app.api_route("/files/{file_id}", methods=["GET", "HEAD"])
    async def by_id(
        request: Request,
        file_id: str,
        startCoordinate: int = Query(default=0, ge=0),
        endCoordinate: int = Query(default=0, ge=0),
    ) -> Response:
        granted = await access.datasets(request.headers)
        entry = await asyncio.to_thread(archive.by_id, file_id)
        if entry is None:
            raise DownloadDenied(404, "file not found")
        if entry.dataset not in granted:
            raise DownloadDenied(401, "unauthorised")
        # SDA's v1 gives plaintext by id, its v2 Crypt4GH for the key that is named.
        encrypted = any(name in request.headers for name in KEY_HEADERS)
        return await service.send(request, entry, encrypted=encrypted, coordinates=(startCoordinate, endCoordinate))

    @app.api_route("/s3/{rest:path}", methods=["GET", "HEAD"])
    async def s3(request: Request, rest: str) -> Response:
        return await service.s3(request, rest, encrypted=rest.endswith(".c4gh"))

    @app.api_route("/s3-encrypted/{rest:path}", methods=["GET", "HEAD"])
    async def s3_encrypted(request: Request, rest: str) -> Response:
        return await service.s3(request, rest, encrypted=True)

    return app


def bucket_list(dataset: str) -> Response:
    """What SDA before v3.1.51 answered to an ungranted `/s3`: 200 and no data."""
    inner = f"<Name>{escape(dataset)}</Name><Prefix></Prefix><KeyCount>0</KeyCount><IsTruncated>false</IsTruncated>"
    body = f'<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">{inner}</ListBucketResult>'
    return Response(f'<?xml version="1.0" encoding="UTF-8"?>\n{body}', media_type="application/xml")


class SdaService:
    def __init__(self, config: SdaConfig, archive: Archive, access: AccessCheck) -> None:
        self.config, self.archive, self.access = config, archive, access
        # Re-encryption is random: kept, so that ranges of one file for one key fit together. Holds headers only, no
        # data, no rights.
        self._headers: OrderedDict[tuple[str, int, bytes], bytes] = OrderedDict()

    async def s3(self, request: Request, rest: str, *, encrypted: bool) -> Response:
        granted = await self.access.datasets(request.headers)
        # A dataset id may itself hold slashes: the longest granted one that fits is meant.
        dataset = max((d for d in granted if rest.startswith(d + "/")), key=len, default=None)
        if dataset is None:
            if self.config.flavour == "before-3.1.51":
                return bucket_list(rest.split("/")[0])
            return Response(status_code=403)
        if dataset not in self.archive.datasets():
            raise DownloadDenied(404, "dataset not found")
        entry = self.archive.find(dataset, rest[len(dataset) + 1 :])
        if entry is None:
            raise DownloadDenied(404, "file not found")
        return await self.send(request, entry, encrypted=encrypted)

    async def send(
        self, request: Request, entry: ArchiveEntry, *, encrypted: bool, coordinates: tuple[int, int] = (0, 0)
    ) -> Response:
        fault = faults(self.config.archive).get(entry.name)
        if fault is not None and fault.kind == "unavailable":
            return PlainTextResponse("archive unavailable", 503)
        if fault is not None and fault.kind == "xml":
            return bucket_list(entry.dataset)
        recipient = _recipient(request) if encrypted else None
        try:
            stored = Crypt4ghFile.open(entry.file)
            plain = await asyncio.to_thread(self.archive.plain, entry)
            head = self._header(entry, stored, recipient) if recipient else b""
        except NotCrypt4GH as error:
            log.error("%s: %s", entry.name, error)
            return PlainTextResponse("file re-encryption error" if encrypted else "file decryption error", 500)
        size = len(head) + stored.body_size if encrypted else stored.plain_size
        if fault is not None and fault.kind == "truncated":
            size //= 2
        etag = f'"{plain.sha256}"'
        modified = formatdate(entry.file.stat().st_mtime, usegmt=True)
        headers = {
            "ETag": etag,
            "Last-Modified": modified,
            "Accept-Ranges": "bytes",
            "Cache-Control": "no-store",
            "X-Content-Type-Options": "nosniff",
        }
        try:
            if coordinates[1] > coordinates[0]:
                part = Span(min(coordinates[0], size), max(0, min(coordinates[1], size) - coordinates[0]), False)
            else:
                part = span(request.headers.get("range"), request.headers.get("if-range"), etag, size)
        except Unsatisfiable:
            return Response(status_code=416, headers={**headers, "Content-Range": f"bytes */{size}"})
        headers["Content-Length"] = str(part.length)
        if part.partial:
            headers["Content-Range"] = f"bytes {part.start}-{part.start + part.length - 1}/{size}"
        status = 206 if part.partial else 200
        if request.method == "HEAD":
            return Response(status_code=status, headers=headers, media_type="application/octet-stream")
        if recipient is None:
            pieces: Iterator[bytes] = stored.plaintext(self.archive.key, part.start, part.length)
        else:
            skipped = max(0, part.start - len(head))
            lead = head[part.start : part.start + part.length]
            pieces = chain([lead] if lead else [], stored.body(skipped, part.length - len(lead)))
        stream = _spoiled(_in_threads(pieces), fault, part.length)
        return StreamingResponse(stream, status, headers=headers, media_type="application/octet-stream")

    def _header(self, entry: ArchiveEntry, stored: Crypt4ghFile, recipient: bytes) -> bytes:
        key = (entry.name, entry.file.stat().st_mtime_ns, recipient)
        if key not in self._headers:
            self._headers[key] = stored.header_for(self.archive.key, recipient)
            while len(self._headers) > 256:
                self._headers.popitem(last=False)
        return self._headers[key]


def _recipient(request: Request) -> bytes:
    """The caller's key (base64 of its PEM)."""
    given = next((request.headers[name] for name in KEY_HEADERS if name in request.headers), "")
    if not given:
        raise DownloadDenied(400, "c4gh public key is missing from the header")
    try:
        return public_key(base64.b64decode(given, validate=True).decode("ascii"))
    except (binascii.Error, UnicodeDecodeError, NotCrypt4GH):
        raise DownloadDenied(400, "c4gh public key is not base64 of a Crypt4GH public key in PEM") from None


async def _in_threads(pieces: Iterator[bytes]) -> AsyncIterator[bytes]:
    """Reading and decrypting happen off the event loop, a piece at a time."""
    while True:
        piece = await asyncio.to_thread(next, pieces, None)
        if piece is None:
            return
        yield piece


async def _spoiled(pieces: AsyncIterator[bytes], fault: SdaFault | None, length: int) -> AsyncIterator[bytes]:
    """The pieces, with the ordered fault."""
    kind = fault.kind if fault else ""
    sent = 0
    async for piece in pieces:
        if kind == "not-crypt4gh":
            piece = (b"this is not data " * (len(piece) // 17 + 1))[: len(piece)]
        if kind == "cut" and sent + len(piece) >= max(1, length // 2):
            yield piece[: max(0, length // 2 - sent)]
            raise ConnectionError("cut half-way, as ordered")
        sent += len(piece)
        if kind == "slow" and fault is not None:
            await asyncio.sleep(len(piece) / fault.bytes_per_second)
        yield piece
