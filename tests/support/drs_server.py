"""A DRS server (GA4GH DRS 1.4) and, below `/objects/`, the DRS endpoint of SDA's v2: a stand-in, as an archive of a
registry of packages has none. Its answers are held against the published description (wires.DRS).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fastapi import FastAPI, Request
from starlette.responses import JSONResponse, RedirectResponse, Response

from tests.support.wire import FAULT, bind
from tests.support.wires import DRS

OBJECTS = "/ga4gh/drs/v1/objects"


class DrsServer:
    """`objects` by id; `by_file` by `DATASET/path`, as SDA's v2 has them. `opens` says whether a token is good.
    `faults`: what is done otherwise to an id. `asked`: the paths, as they came over the wire.
    """

    def __init__(self, opens: Callable[[str], bool]) -> None:
        self.objects: dict[str, dict[str, Any]] = {}
        self.by_file: dict[str, dict[str, Any]] = {}
        self.faults: dict[str, str] = {}
        self.asked: list[str] = []
        self.tokens: list[str] = []
        self._opens = opens
        self.app = bind(FastAPI(), DRS)
        self.app.add_api_route(OBJECTS + "/{id_:path}", self._object, methods=["GET"])
        self.app.add_api_route("/objects/{path:path}", self._of_file, methods=["GET"])
        self.app.add_api_route("/elsewhere", self._elsewhere, methods=["GET"])

    def _seen(self, request: Request) -> bool:
        token = request.headers.get("authorization", "").removeprefix("Bearer ")
        self.asked.append(request.scope["raw_path"].decode())
        self.tokens.append(token)
        return self._opens(token)

    async def _object(self, request: Request, id_: str) -> Response:
        if not self._seen(request):
            return _error(401, "who are you?")
        fault = self.faults.get(id_, "")
        wrong = {FAULT: fault}
        if fault == "elsewhere":
            return RedirectResponse("/elsewhere", 302, headers=wrong)
        if fault == "huge":
            return JSONResponse({"description": "x" * 300_000, **self.objects[id_]}, headers=wrong)
        if fault == "html":
            return Response("<html>sign in</html>", media_type="text/html", headers=wrong)
        if fault == "no-object":
            return JSONResponse({"id": id_}, headers=wrong)
        if fault == "later":
            return Response(status_code=202, headers={"Retry-After": "7"})
        if fault == "forever":
            return Response(status_code=202, headers={"Retry-After": "9" * 8, **wrong})
        if fault == "busy":
            return Response("<html>busy</html>", 503)
        if fault == "closed":
            return _error(403, "no visa for it")
        return JSONResponse(self.objects[id_]) if id_ in self.objects else _error(404, "no such object")

    async def _of_file(self, request: Request, path: str) -> Response:
        if not self._seen(request) or path not in self.by_file:
            return _error(403, "access denied")
        return JSONResponse(self.by_file[path])

    async def _elsewhere(self) -> Response:
        self.asked.append("/elsewhere")
        return Response("secret")


def drs_object(id_: str, size: int, checksum: str = "", **more: Any) -> dict[str, Any]:
    """As the standard requires it; the checksum is a SHA-256 in hex."""
    url = f"https://drs.archive.example/data/{id_}"
    return {
        "id": id_,
        "self_uri": f"drs://drs.archive.example/{id_}",
        "size": size,
        "created_time": "2026-01-01T00:00:00Z",
        "checksums": [{"checksum": checksum or "0" * 64, "type": "sha-256"}],
        "access_methods": [{"type": "https", "access_url": {"url": url, "headers": ["Authorization: Basic secret"]}}],
        **more,
    }


def _error(status: int, message: str) -> Response:
    return JSONResponse({"msg": message, "status_code": status}, status)
