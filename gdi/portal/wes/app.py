"""WES as an application of its own, mounted below the portal's: its errors have the form that WES gives them."""

from __future__ import annotations

import logging

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from gdi.kit.problem import ProblemError
from gdi.portal.door import Door
from gdi.portal.wes.routes import router

log = logging.getLogger(__name__)


def create_wes(door: Door) -> FastAPI:
    app = FastAPI(
        title="GDI workflows by GA4GH WES 1.1",
        version="1.1.0",
        docs_url=None,
        redoc_url=None,
        openapi_url="/openapi.json",
        redirect_slashes=False,
    )
    app.state.door = door
    app.include_router(router, default_response_class=JSONResponse)
    app.add_exception_handler(ProblemError, _on_problem)
    app.add_exception_handler(RequestValidationError, _on_validation)
    app.add_exception_handler(HTTPException, _on_http)
    app.add_exception_handler(Exception, _on_bug)
    return app


def answer(status: int, msg: str, headers: dict[str, str] | None = None) -> JSONResponse:
    """`ErrorResponse`. WES knows 400 where others say 409, 413 or 422."""
    shown = 400 if status in (409, 413, 422) else status
    return JSONResponse({"msg": msg, "status_code": shown}, status_code=shown, headers=headers)


async def _on_problem(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, ProblemError)
    status = 500 if error.problem.status == 502 else error.problem.status
    headers = {"WWW-Authenticate": "Bearer"} if status == 401 else {}
    wait = (error.problem.model_extra or {}).get("retry_after")
    if isinstance(wait, int):
        headers["Retry-After"] = str(wait)
    return answer(status, str(error), headers)


async def _on_validation(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    fields = [f"{'.'.join(str(p) for p in e['loc'][1:])}: {e['msg']}" for e in error.errors()[:20]]
    return answer(400, "; ".join(fields))


async def _on_http(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    return answer(error.status_code, str(error.detail), dict(error.headers or {}))


async def _on_bug(request: Request, error: Exception) -> JSONResponse:
    log.error("unexpected %s at %s %s", type(error).__name__, request.method, request.url.path, exc_info=error)
    return answer(500, "An unexpected error was logged. Try again; if it stays, tell the operator.")
