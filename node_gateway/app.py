"""The two applications of one gateway: the public one for runs, the internal one for the node's own TES and
operators.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from functools import partial
from typing import Annotated, Any

import sqlalchemy as sa
from fastapi import FastAPI, Query, Request
from starlette.responses import JSONResponse, Response, StreamingResponse

from gdi.kit.database import DatabaseAwayError
from gdi.kit.jose import TokenError
from gdi.kit.measured import Measured
from gdi.kit.problem import ProblemError
from gdi.kit.server import install
from node_gateway import datasets, logs
from node_gateway.context import Gateway
from node_gateway.data import routes as data
from node_gateway.release import routes as release
from node_gateway.review import routes as review
from node_gateway.tasks import routes as tasks
from node_gateway.workspace import routes as workspace
from node_gateway.workspace import sources

MAX_BODY = 8 * 1024 * 1024
SAFE_HEADERS = [
    (b"x-content-type-options", b"nosniff"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
    (b"cache-control", b"no-store"),
    (b"referrer-policy", b"no-referrer"),
]


def public_app(gateway: Gateway) -> FastAPI:
    app = _app("Node gateway", gateway, "public", openapi="/openapi.json")
    for router in (
        tasks.router,
        sources.router,
        workspace.router,
        datasets.router,
        release.router,
        logs.router,
        review.router,
    ):
        app.include_router(router(gateway))

    @app.api_route("/s3/{rest:path}", methods=["GET", "HEAD", "PUT", "POST", "DELETE"], include_in_schema=False)
    @app.api_route(
        "/s3-encrypted/{rest:path}", methods=["GET", "HEAD", "PUT", "POST", "DELETE"], include_in_schema=False
    )
    async def no_data_here(request: Request, rest: str) -> Response:
        error = ProblemError(
            404, "not-found", "Data is served to this node's TES only.", action="Name it as an input of a task."
        )
        await gateway.auth.refuse(f"{request.method} {request.url.path}", error)
        raise error

    @app.get("/livez")
    async def livez() -> dict[str, str]:
        return {"status": "ok"}

    @app.get("/readyz")
    async def readyz() -> Response:
        """200 where the gateway itself works; what it leans on is told beside it."""
        checks = await _checks(gateway)
        ready = checks["database"] == "ok" and checks["policy"] == "ok"
        return JSONResponse(
            {"status": "ok" if ready else "not ready", "checks": checks}, status_code=200 if ready else 503
        )

    @app.get("/metrics", include_in_schema=False)
    async def metrics() -> Response:
        return Response(gateway.metrics.text(), media_type="text/plain; version=0.0.4")

    return app


def internal_app(gateway: Gateway) -> FastAPI:
    app = _app("Node gateway, inside", gateway, "internal", openapi=None)
    app.include_router(data.router(gateway))
    app.include_router(review.internal_router(gateway))

    @app.get("/audit")
    async def audit(
        after: Annotated[int, Query(ge=0)] = 0, run: str = "", limit: Annotated[int, Query(ge=1, le=10_000)] = 1000
    ) -> Response:
        """JSON lines, oldest first; each `hash` is SHA-256 over `previous`, a newline and the entry's canonical
        JSON.
        """

        async def lines() -> AsyncIterator[bytes]:
            async for entry in gateway.audit.lines(after=after, run=run, limit=limit):
                yield json.dumps(entry, ensure_ascii=False).encode() + b"\n"

        return StreamingResponse(lines(), media_type="application/x-ndjson")

    @app.post("/housekeeping")
    async def housekeeping() -> dict[str, Any]:
        """Empties what is past its retention now; the gateway does the same by itself every hour."""
        return {"emptied": await gateway.retention.once()}

    @app.get("/livez")
    async def livez() -> dict[str, str]:
        return {"status": "ok"}

    return app


def _app(title: str, gateway: Gateway, listener: str, *, openapi: str | None) -> FastAPI:
    app = FastAPI(title=title, version="1", openapi_url=openapi, docs_url=None, redoc_url=None, redirect_slashes=False)
    install(app, max_body=MAX_BODY)
    app.add_middleware(Measured, observe=partial(gateway.metrics.observe, listener), headers=lambda _: SAFE_HEADERS)
    return app


async def _checks(gateway: Gateway) -> dict[str, Any]:
    async def database() -> str:
        async with gateway.database.read() as connection:
            await connection.execute(sa.text("SELECT 1"))
        return "ok"

    async def broker() -> str:
        await gateway.keys.keys()
        return "ok"

    async def alive(part: Any) -> str:  # TES, archive or bucket: whatever has alive()
        return "ok" if await part.alive() else "away"

    async def bounded(name: str, check: Any) -> tuple[str, str]:  # a coroutine of str
        try:
            return name, await asyncio.wait_for(check, 6)
        except (TimeoutError, TokenError, DatabaseAwayError, sa.exc.SQLAlchemyError) as error:
            return name, f"away ({type(error).__name__})"

    parts = {
        "database": database(),
        "broker": broker(),
        "tes": alive(gateway.tasks.tes),
        "archive": alive(gateway.archive),
        "storage": alive(gateway.workspace),
    }
    found = dict(await asyncio.gather(*(bounded(name, check) for name, check in parts.items())))
    gateway.policy.current()
    return {
        **found,
        "policy": "the changed file is wrong, the last good one is used" if gateway.policy.problem else "ok",
    }
