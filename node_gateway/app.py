"""The applications of one gateway: the public one for runs, the internal one for the node's own TES and operators, and
one for its monitoring.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from fastapi import FastAPI, Request
from starlette.responses import JSONResponse, Response

from gdi.contracts.gateway_api import GatewayHealth
from gdi.kit.measured import Measured
from gdi.kit.problem import ProblemError
from gdi.kit.server import install
from node_gateway import datasets, logs
from node_gateway.committee import routes as committee
from node_gateway.context import Gateway
from node_gateway.data import door, htsget_routes
from node_gateway.data import routes as data
from node_gateway.own_tasks import routes as own_tasks
from node_gateway.release import routes as release
from node_gateway.review import routes as review
from node_gateway.tasks import routes as tasks
from node_gateway.workloads import routes as workloads
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
        committee.router,  # before the review, below whose path it lies
        review.router,
        workloads.router,
        own_tasks.router,
    ):
        app.include_router(router(gateway))

    methods = ["GET", "HEAD", "PUT", "POST", "DELETE"]

    @app.api_route("/s3/{rest:path}", methods=methods, include_in_schema=False)
    @app.api_route("/s3-encrypted/{rest:path}", methods=methods, include_in_schema=False)
    @app.api_route("/reads/{rest:path}", methods=methods, include_in_schema=False)
    @app.api_route("/variants/{rest:path}", methods=methods, include_in_schema=False)
    @app.api_route("/htsget/{rest:path}", methods=methods, include_in_schema=False)
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
        """Whether the gateway works, as it last saw itself. Anyone may ask, so nobody else is asked for it, and only
        operators learn what is wrong (on the internal and the operations' listener).
        """
        ready = gateway.health.ready
        return JSONResponse({"status": "ok" if ready else "not ready"}, status_code=200 if ready else 503)

    @app.get("/health")
    async def health(request: Request) -> GatewayHealth:
        """What the node's own agent tells the centre of this gateway. Nobody else is told."""
        await gateway.auth.expect_agent(request)
        return GatewayHealth(checks=gateway.health.words)

    return app


def operations_app(gateway: Gateway) -> FastAPI:
    """For the node's own monitoring: nothing of it is for the outside."""
    app = _app("Node gateway, operations", gateway, "operations", openapi=None)
    _operations(app, gateway)
    return app


def _operations(app: FastAPI, gateway: Gateway) -> None:
    @app.get("/livez")
    async def livez() -> dict[str, str]:
        return {"status": "ok"}

    @app.get("/readyz")
    async def readyz() -> Response:
        """200 where the gateway itself works; what it leans on, asked now, is told beside it."""
        checks = await gateway.health.look()
        ready = gateway.health.ready
        return JSONResponse(
            {"status": "ok" if ready else "not ready", "checks": checks}, status_code=200 if ready else 503
        )

    @app.get("/metrics", include_in_schema=False)
    async def metrics() -> Response:
        gateway.policy.current()
        return Response(gateway.metrics.text(), media_type="text/plain; version=0.0.4")


def internal_app(gateway: Gateway) -> FastAPI:
    app = _app("Node gateway, inside", gateway, "internal", openapi=None)
    app.include_router(data.router(gateway))
    app.include_router(htsget_routes.router(gateway))
    if (secret := gateway.settings.door_secret()) is not None:
        app.include_router(door.router(gateway, secret))
    app.include_router(review.internal_router(gateway))
    app.include_router(own_tasks.internal_router(gateway))

    app.include_router(committee.internal_router(gateway))

    @app.post("/housekeeping")
    async def housekeeping() -> dict[str, Any]:
        """Empties what is past its retention now and refuses what waited too long; the gateway does so every hour."""
        return {"emptied": await gateway.retention.once(), "expired": await gateway.reviews.expire()}

    _operations(app, gateway)
    return app


def _app(title: str, gateway: Gateway, listener: str, *, openapi: str | None) -> FastAPI:
    app = FastAPI(title=title, version="1", openapi_url=openapi, docs_url=None, redoc_url=None, redirect_slashes=False)
    install(app, max_body=MAX_BODY)
    app.add_middleware(Measured, observe=partial(gateway.metrics.observe, listener), headers=lambda _: SAFE_HEADERS)
    return app
