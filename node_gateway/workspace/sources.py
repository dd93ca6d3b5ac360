"""`PUT /workspace/{run}/.gdi/sources/{sha256}`: a file of the run's workflow for its tasks, checked against the hash
that names it; never read from outside.
"""

from __future__ import annotations

import hashlib
import hmac
import io

from fastapi import APIRouter, Request
from starlette.responses import Response

from gdi.contracts.ids import RunId, Sha256
from gdi.contracts.urls import SOURCES
from gdi.kit.problem import ProblemError
from node_gateway.audit import AuditEvent
from node_gateway.context import Gateway
from node_gateway.workspace.bucket import PAGE

MAX_FILE = 4 * 1024 * 1024
MAX_FILES, MAX_TOTAL = 1000, 64 * 1024 * 1024  # of a run


def router(gateway: Gateway) -> APIRouter:
    routes = APIRouter()
    bucket = gateway.workspace

    @routes.put("/workspace/{run}/" + SOURCES + "/{sha256}", status_code=204)
    async def put(request: Request, run: RunId, sha256: Sha256) -> Response:
        """204 also where it is there already. 413 too large, 422 another content than the name says, 403 more than a
        run may keep.
        """
        caller = await gateway.run_caller(request, "workspace", run)
        data = await _body(request)
        if not hmac.compare_digest(hashlib.sha256(data).hexdigest(), sha256):
            raise ProblemError(
                422,
                "wrong-hash",
                "The body's SHA-256 is not the one in the path.",
                action="Send the file again, whole.",
            )
        key = f"{run}/{SOURCES}/{sha256}"
        async with gateway.locks.alone("sources", run):  # the count below must not be passed by many at once
            if await bucket.head(key) is None:
                await _room(run, len(data))
                await bucket.upload(key, io.BytesIO(data), "application/octet-stream")
                what = f"{key} ({len(data)} bytes)"
                await gateway.audit.record(
                    AuditEvent(
                        "source-stored",
                        True,
                        caller.actor,
                        caller.run,
                        caller.attempt,
                        what=what,
                        workflow=caller.workflow,
                    )
                )
        return Response(status_code=204)

    async def _room(run: str, size: int) -> None:
        found, following = await bucket.page(f"{run}/{SOURCES}/", "", PAGE)
        if following or len(found) >= MAX_FILES or sum(f.size for f in found) + size > MAX_TOTAL:
            detail = (
                f"This run's workflow files would be more than {MAX_FILES} or larger than {MAX_TOTAL} bytes together."
            )
            raise ProblemError(
                403,
                "too-many-sources",
                detail,
                action="Keep data out of the workflow's folder: make it a dataset or put it into the image.",
            )

    return routes


async def _body(request: Request) -> bytes:
    """The body, at most MAX_FILE bytes, whatever its Content-Length says."""
    data = bytearray()
    async for chunk in request.stream():
        data += chunk
        if len(data) > MAX_FILE:
            raise ProblemError(
                413,
                "too-large",
                f"A workflow's file may have {MAX_FILE} bytes.",
                action="Put large files into the image or a dataset.",
            )
    return bytes(data)
