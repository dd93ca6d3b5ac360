"""The portal's FastAPI application: the API, GA4GH WES, their description, /livez and /readyz."""

from __future__ import annotations

import logging
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse
from starlette.routing import Mount
from starlette.types import Scope

from gdi.kit import measured, server
from gdi.kit.graceful_shutdown import GracefulShutdown, LastAnswers
from gdi.kit.version import installed
from gdi.kit.web import Pages, style_sheet
from gdi.portal import api, cors, openapi
from gdi.portal.door import Door
from gdi.portal.pages import routes
from gdi.portal.wes.app import create_wes
from gdi.portal.wes.routes import PREFIX

log = logging.getLogger(__name__)
MAX_BODY = 8 * 1024 * 1024
TAGS = [
    {"name": "workflows", "description": "What can be run."},
    {"name": "datasets", "description": "What you may use now, and where to apply for more."},
    {"name": "grants", "description": "Your consent that a workflow reads datasets on your behalf."},
    {"name": "runs", "description": "Start, follow, stop, run again."},
    {"name": "results", "description": "What left the nodes, and the answer made of it."},
]
ABOUT = (
    "Analyses of genomic data where the data lies. Sign in at LS AAI, see what you may use, give consent, start a run,"
    " read its results. Times are seconds since 1970 (UTC)."
)


def create_app(door: Door, drain: GracefulShutdown | None = None) -> FastAPI:
    """The application over an open door, which it closes at shutdown."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        door.watch.start()
        log.info("portal ready at %s", door.settings.public_url)
        yield
        await door.close()

    app = FastAPI(
        title="GDI portal API",
        version="1",
        description=ABOUT,
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        openapi_url="/openapi.json",
        openapi_tags=TAGS,
    )
    app.state.door = door
    app.state.drain = drain = drain or GracefulShutdown()
    app.include_router(api.router)
    if door.sign_in is not None:
        routes.install(app, door.sign_in)
    wes = Mount(PREFIX, app=create_wes(door), name="wes")
    wes.path_regex = re.compile(wes.path_regex.pattern, re.DOTALL)  # a line end in a path is WES's 404 too
    app.router.routes.append(wes)
    _public(app, Pages("gdi.portal", style="/style.css"))
    openapi.describe(app, door.settings.oidc_issuer)
    server.install(app, max_body=MAX_BODY)
    app.add_middleware(measured.Measured, observe=lambda *_: None, headers=_headers)
    app.add_middleware(cors.HeadAsGet)
    cors.install(app, door.settings)
    app.add_middleware(LastAnswers, drain=drain)
    return app


def _public(app: FastAPI, pages: Pages) -> None:
    @app.get("/livez", tags=["operations"], include_in_schema=False)
    async def livez() -> dict[str, str]:
        return {"status": "ok"}

    @app.get("/readyz", tags=["operations"], include_in_schema=False)
    async def readyz(request: Request) -> Response:
        ready = not request.app.state.drain.draining
        return JSONResponse({"status": "ok" if ready else "failing"}, status_code=200 if ready else 503)

    @app.get("/docs", include_in_schema=False)
    async def docs() -> Response:
        return openapi.page(app, pages)

    @app.get("/style.css", include_in_schema=False)
    async def style() -> Response:
        return style_sheet()

    @app.get("/", include_in_schema=False)
    async def first() -> Response:
        return pages.message(
            "GDI portal",
            f"This is the portal of a GDI federation, version {installed('gdi-portal')[1]}.",
            "Programs use its API and GA4GH WES 1.1 at /ga4gh/wes/v1.",
            link=("/docs", "Every call of the API"),
        )


def _headers(scope: Scope) -> measured.Headers:
    """Keeps what is of one user out of caches."""
    private = scope["path"].startswith(("/v1/", "/ga4gh/"))
    return [(b"x-content-type-options", b"nosniff"), *([(b"cache-control", b"no-store")] if private else [])]
