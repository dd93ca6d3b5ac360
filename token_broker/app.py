"""The broker's FastAPI applications: API, sign-in pages, /livez, /readyz and the key set; and the operator's own, with
/metrics.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse
from starlette.types import Scope

from gdi.kit import measured, server
from gdi.kit.graceful_shutdown import GracefulShutdown, LastAnswers
from token_broker import api, committee_api, order_api, round_api
from token_broker.broker import Broker
from token_broker.web import pages
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
    app.include_router(order_api.router)
    app.include_router(round_api.router)
    app.include_router(committee_api.router)
    app.include_router(web.router)
    _public(app)
    server.install(app, max_body=MAX_BODY, larger=order_api.LARGER)
    app.add_middleware(measured.Measured, observe=broker.metrics.observe, headers=_headers)
    app.add_middleware(LastAnswers, drain=drain)
    return app


def _public(app: FastAPI) -> None:
    _livez(app)

    @app.get("/", include_in_schema=False)
    async def first(request: Request) -> Response:
        broker: Broker = request.app.state.broker
        return pages.first(broker.settings.portal_url)

    @app.get("/readyz", tags=["operations"])
    async def readyz(request: Request) -> Response:
        """Whether the broker works, as it last saw itself (each second). Anyone may ask, so nobody is asked for it."""
        ready = not request.app.state.drain.draining and not request.app.state.broker.health.failing
        return JSONResponse({"status": "ok" if ready else "failing"}, status_code=200 if ready else 503)

    @app.get("/.well-known/jwks.json", tags=["operations"])
    async def jwks(request: Request) -> Response:
        """The public keys of run tokens."""
        broker: Broker = request.app.state.broker
        return JSONResponse({"keys": [broker.key.jwk()]}, headers={"Cache-Control": "public, max-age=60"})


def operations_app(broker: Broker, drain: GracefulShutdown) -> FastAPI:
    """For the operator's monitoring: a listener of its own, none of it for the outside."""
    app = FastAPI(title="GDI token broker, operations", openapi_url=None)
    server.install(app, max_body=MAX_BODY)
    _livez(app)

    @app.get("/readyz")
    async def readyz() -> Response:
        """503 naming the part that fails, asked now; `enrolment`: a mistake in its file, which the last good one
        outlives.
        """
        failing = dict(await broker.health.look())
        if drain.draining:
            failing["server"] = "stopping"
        more = {"enrolment": broker.enrolment.problem} if broker.enrolment.problem else {}
        return JSONResponse(
            {"status": "failing" if failing else "ok", **failing, **more}, status_code=503 if failing else 200
        )

    @app.get("/metrics")
    async def metrics() -> Response:
        return Response(broker.metrics.text(), media_type="text/plain; version=0.0.4")

    return app


def _livez(app: FastAPI) -> None:
    @app.get("/livez", tags=["operations"])
    async def livez() -> dict[str, str]:
        return {"status": "ok"}


def _headers(scope: Scope) -> measured.Headers:
    """Keeps answers with tokens out of caches."""
    private = scope["path"].startswith(("/v1/", "/connect"))
    return [(b"x-content-type-options", b"nosniff"), *([(b"cache-control", b"no-store")] if private else [])]
