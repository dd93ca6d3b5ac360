"""An htsget server over VCF files, whose tickets are of the forms that htsget-rs gives: with Crypt4GH a header as data,
with an edit list, and ranges of whole segments; without it ranges of BGZF blocks.
"""

from __future__ import annotations

import base64
import gzip
import os
import struct
from collections.abc import Callable
from typing import Any

from crypt4gh import header as package
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from fastapi import FastAPI, Request
from starlette.responses import JSONResponse, Response

from gdi.funnel.crypt4gh import MAGIC, SEALED, SEGMENT
from tests.support.wire import FAULT, bind
from tests.support.wires import HTSGET

EOF = bytes.fromhex("1f8b08040000000000ff0600424302001b0003000000000000000000")
Spans = list[tuple[int, int]]  # from, to


class HtsgetServer:
    """`files`: BGZF VCFs by id (`DATASET/name`). `opens` says whether a token is good. `faults`: what is done otherwise
    to a file of this id: `elsewhere`, `plain`, `cut`, `gone`, `busy`, `no-ticket`, `own-header`.
    """

    def __init__(self, opens: Callable[[str], bool]) -> None:
        self.files: dict[str, bytes] = {}
        self.faults: dict[str, str] = {}
        self.open = {"DS-A", "DS-B"}
        self.encrypted = True
        self.requests: list[dict[str, str]] = []
        self.sent = 0  # bytes of data
        self._opens = opens
        self._sealed: dict[bytes, tuple[bytes, bytes]] = {}  # session key and segments, by the file
        self.app = bind(FastAPI(), HTSGET)
        self.app.add_api_route("/htsget/{kind}/service-info", self._info, methods=["GET"])
        self.app.add_api_route("/htsget/data/{id_:path}", self._data, methods=["GET"])
        self.app.add_api_route("/htsget/{kind}/{id_:path}", self._ticket, methods=["GET", "POST"])

    async def _info(self, kind: str) -> Any:
        return {"id": "test", "htsget": {"datatype": kind, "formats": ["VCF"]}, "type": {"artifact": "htsget"}}

    async def _ticket(self, request: Request, kind: str, id_: str) -> Response:
        token = request.headers.get("authorization", "")
        self.requests.append({"path": request.url.path, "query": request.url.query, **dict(request.headers)})
        fault = self.faults.get(id_, "")
        if fault == "busy":
            return Response("<html>busy</html>", 503)
        if not self._opens(token.removeprefix("Bearer ")) or id_.partition("/")[0] not in self.open:
            return _error(403, "PermissionDenied", "no visa for it")
        if kind != "variants" or id_ not in self.files:
            return _error(404, "NotFound", f"{id_} is not here")
        asked: list[dict[str, Any]] = [dict(request.query_params)]
        if request.method == "POST":
            asked = (await request.json()).get("regions") or [{}]
        if any(str(a.get("referenceName", "20")) not in ("20", "21") for a in asked):
            return _error(404, "NotFound", "no such reference")
        if fault == "no-ticket":
            return JSONResponse({"htsget": {"urls": []}}, headers={FAULT: "1"})
        plain = self.files[id_]
        spans = _merged([span for a in asked for span in slices(plain, a)])
        whole = any("referenceName" not in a and a.get("class") != "header" for a in asked)
        base = f"{request.base_url}htsget/data/{id_}"
        if fault == "elsewhere":
            base = "http://127.0.0.1:9/htsget/data"
        own = {"Authorization": "Bearer of-the-servers-own" if fault == "own-header" else token}
        if not self.encrypted:
            ranges: Spans = [(0, len(plain))] if whole else spans
            urls: list[dict[str, Any]] = [
                {"url": base, "headers": {**own, **({} if whole else {"Range": f"bytes={a}-{b - 1}"})}}
                for a, b in ranges
            ]
        else:
            key = base64.b64decode(base64.b64decode(request.headers["client-public-key"]).splitlines()[1])
            urls = self._encrypted(plain, [(0, len(plain))] if whole else spans, key, base, own)
            if fault == "plain":
                urls[0]["url"] = "data:;base64," + base64.b64encode(b"##fileformat=VCFv4.2\n").decode()
        return JSONResponse({"htsget": {"format": "VCF", "urls": urls}})

    def _encrypted(
        self, plain: bytes, spans: Spans, key: bytes, base: str, own: dict[str, str]
    ) -> list[dict[str, Any]]:
        session, body = self._sealed_of(plain)
        segments = _merged([(a // SEGMENT, -(-b // SEGMENT)) for a, b in spans])
        edits, at = [], 0  # what is left out and what is kept, in turns, of the segments that come
        for first, last in segments:
            here = first * SEGMENT
            for a, b in spans:
                if here <= a < last * SEGMENT:
                    edits += [a - here + at, b - a]
                    here, at = b, 0
            at += min(last * SEGMENT, len(plain)) - here
        found = [package.make_packet_data_enc(0, session), package.make_packet_data_edit_list(edits)]
        packets = [bytes(next(iter(package.encrypt(p, [(0, os.urandom(32), key)])))) for p in found]
        head = MAGIC + (1).to_bytes(4, "little") + len(packets).to_bytes(4, "little")
        head += b"".join((len(p) + 4).to_bytes(4, "little") + p for p in packets)
        ranges = [(a * SEALED, min(b * SEALED, len(body))) for a, b in segments]
        return [
            {"url": "data:;base64," + base64.b64encode(head).decode(), "class": "header"},
            *({"url": base, "headers": {**own, "Range": f"bytes={a}-{b - 1}"}, "class": "body"} for a, b in ranges),
        ]

    def _sealed_of(self, plain: bytes) -> tuple[bytes, bytes]:
        if plain not in self._sealed:
            session, body = os.urandom(32), bytearray()
            for at in range(0, len(plain), SEGMENT):
                nonce = os.urandom(12)
                body += nonce + ChaCha20Poly1305(session).encrypt(nonce, plain[at : at + SEGMENT], None)
            self._sealed[plain] = session, bytes(body)
        return self._sealed[plain]

    async def _data(self, request: Request, id_: str) -> Response:
        self.requests.append({"path": request.url.path, **dict(request.headers)})
        fault = self.faults.get(id_, "")
        token = request.headers.get("authorization", "").removeprefix("Bearer ")
        if token != "of-the-servers-own" if fault == "own-header" else not self._opens(token):
            return _error(403, "PermissionDenied", "no")
        if fault == "gone":
            return Response(status_code=404)
        body = self._sealed_of(self.files[id_])[1] if self.encrypted else self.files[id_]
        start, end, status = 0, len(body), 200
        if given := request.headers.get("range"):
            first, _, last = given.removeprefix("bytes=").partition("-")
            start, end, status = int(first), int(last) + 1, 206
        part = body[start:end]
        headers = {"Content-Length": str(len(part))}
        if status == 206:
            headers["Content-Range"] = f"bytes {start}-{start + len(part) - 1}/{len(body)}"
        if fault == "cut":
            part = part[: len(part) // 2]
        self.sent += len(part)
        return Response(part, status, headers=headers)


def slices(plain: bytes, asked: dict[str, Any]) -> Spans:
    """The BGZF blocks that have the header, or records of the region, and the block that ends a file."""
    name, start, end = asked.get("referenceName"), int(asked.get("start", 0)), int(asked.get("end", 2**32))
    found, rest, at = [], b"", 0
    while at < len(plain):
        size = struct.unpack("<H", plain[at + 16 : at + 18])[0] + 1
        lines = (rest + gzip.decompress(plain[at : at + size])).split(b"\n")
        rest = lines.pop()
        rows = [line.split(b"\t") for line in lines if line and not line.startswith(b"#")]
        header = any(line.startswith(b"#") for line in lines) or rest.startswith(b"#")
        hits = name is not None and any(row[0].decode() == name and start < int(row[1]) <= end for row in rows)
        if header or hits or plain[at : at + size] == EOF:
            found.append((at, at + size))
        at += size
    return found


def _merged(spans: Spans) -> Spans:
    found: Spans = []
    for a, b in sorted(set(spans)):
        if found and a <= found[-1][1]:
            found[-1] = (found[-1][0], max(found[-1][1], b))
        else:
            found.append((a, b))
    return found


def _error(status: int, error: str, message: str) -> Response:
    return JSONResponse({"htsget": {"error": error, "message": message}}, status)
