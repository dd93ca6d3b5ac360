"""The broker's FastAPI application: API, sign-in pages, and what operations ask for (/livez /readyz /metrics, the key
set).
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import sqlalchemy as sa
from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse
from starlette.types import Scope

from gdi.kit import measured, server
from gdi.kit.graceful_shutdown import GracefulShutdown, LastAnswers
from token_broker import api
from token_broker.broker import Broker
from token_broker.tokens.vault import VaultUnavailable
from token_broker.web import routes as web

log = logging.getLogger(__name__)
MAX_BODY = 2 * 1024 * 1024


def create_app(broker: Broker, drain: GracefulShutdown | None = None) -> FastAPI:
    """The application over an open broker, which it closes at shutdown. While `drain` drains it says that it is not
    ready.
    """

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        broker.background.start()
        log.info("token broker ready at %s", broker.settings.public_url)
        yield
        await broker.close()

    app = FastAPI(
        title="GDI token broker",
        version="1",
        lifespan=lifespan,
        docs_url="/docs",
        redoc_url=None,
        openapi_url="/openapi.json",
    )
    app.state.broker = broker
    app.state.drain = drain = drain or GracefulShutdown()
    app.include_router(api.router)
    app.include_router(web.router)
    _operations(app)
    server.install(app, max_body=MAX_BODY)
    app.add_middleware(measured.Measured, observe=broker.metrics.observe, headers=_headers)
    app.add_middleware(LastAnswers, drain=drain)
    return app


def _operations(app: FastAPI) -> None:
    @app.get("/livez", tags=["operations"])
    async def livez() -> dict[str, str]:
        return {"status": "ok"}

    @app.get("/readyz", tags=["operations"])
    async def readyz(request: Request) -> Response:
        """503 naming the part that fails. The identity provider is not asked: without it the broker still serves what
        it holds.
        """
        broker: Broker = request.app.state.broker
        failing: dict[str, str] = {}
        if request.app.state.drain.draining:
            failing["server"] = "stopping"
        try:
            async with broker.store.read() as c:
                await c.execute(sa.text("SELECT 1"))
        except Exception as error:
            failing["database"] = type(error).__name__
        try:
            await broker.vault.check()
        except VaultUnavailable as error:
            failing["vault"] = str(error)
        return JSONResponse({"status": "failing" if failing else "ok", **failing}, status_code=503 if failing else 200)

    @app.get("/metrics", tags=["operations"])
    async def metrics(request: Request) -> Response:
        broker: Broker = request.app.state.broker
        return Response(broker.metrics.text(), media_type="text/plain; version=0.0.4")

    @app.get("/.well-known/jwks.json", tags=["operations"])
    async def jwks(request: Request) -> Response:
        """The public keys of run tokens."""
        broker: Broker = request.app.state.broker
        return JSONResponse({"keys": [broker.key.jwk()]}, headers={"Cache-Control": "public, max-age=60"})


def _headers(scope: Scope) -> measured.Headers:
    """Keeps answers with tokens out of caches."""
    private = scope["path"].startswith(("/v1/", "/connect"))
    return [(b"x-content-type-options", b"nosniff"), *([(b"cache-control", b"no-store")] if private else [])]
