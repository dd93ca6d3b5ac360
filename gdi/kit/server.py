"""What the broker's and the gateway's FastAPI applications share: problem+json answers, security headers, a bound on
request bodies.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gdi.kit.problem import PROBLEM_JSON, Problem, ProblemError
from gdi.kit.traced import Traced

log = logging.getLogger(__name__)
HTTP_ACTIONS = {
    400: "Correct the request and send it again.",
    404: "Check the path.",
    405: "Use a method that the path has.",
}


def problem_response(problem: Problem, headers: dict[str, str] | None = None) -> JSONResponse:
    return JSONResponse(
        problem.model_dump(mode="json"), status_code=problem.status, media_type=PROBLEM_JSON, headers=headers
    )


def install(app: FastAPI, *, max_body: int = 4 * 1024 * 1024, larger: Mapping[str, int] | None = None) -> None:
    """Gives `app` problem+json for every error and refuses bodies above `max_body` bytes with 413. `larger`: by pattern
    of the whole path, another bound for a PUT there.
    """

    async def on_problem(_: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, ProblemError)
        headers = {"WWW-Authenticate": "Bearer"} if error.problem.status == 401 else {}
        if isinstance(wait := (error.problem.model_extra or {}).get("retry_after"), int):
            headers["Retry-After"] = str(wait)
        return problem_response(error.problem, headers)

    async def on_validation(_: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, RequestValidationError)
        # Only places and messages: the offending input may be a secret.
        fields = [{"at": ".".join(str(p) for p in e["loc"]), "message": str(e["msg"])} for e in error.errors()[:20]]
        detail = "; ".join(f"{f['at']}: {f['message']}" for f in fields)
        return problem_response(
            ProblemError(
                422, "invalid-request", detail, action="Correct the named fields and send it again.", fields=fields
            ).problem
        )

    async def on_http(_: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, HTTPException)
        slug = {404: "not-found", 405: "method-not-allowed", 401: "unauthenticated", 403: "forbidden"}.get(
            error.status_code, "http-error"
        )
        return problem_response(
            ProblemError(
                error.status_code, slug, str(error.detail), action=HTTP_ACTIONS.get(error.status_code, "")
            ).problem,
            dict(error.headers or {}),
        )

    async def on_bug(request: Request, error: Exception) -> JSONResponse:
        log.error("unexpected %s at %s %s", type(error).__name__, request.method, request.url.path, exc_info=error)
        return problem_response(
            ProblemError(
                500, "internal", "An unexpected error was logged.", action="Try again; if it stays, tell the operator."
            ).problem
        )

    app.add_exception_handler(ProblemError, on_problem)
    app.add_exception_handler(RequestValidationError, on_validation)
    app.add_exception_handler(HTTPException, on_http)
    app.add_exception_handler(Exception, on_bug)
    app.add_middleware(BodyLimit, max_body=max_body, larger=larger or {})
    app.add_middleware(Traced)


class BodyLimit:
    """Refuses a request whose body grows above `max_body` bytes, declared or not, before it is held in memory."""

    def __init__(self, app: ASGIApp, max_body: int, larger: Mapping[str, int] | None = None) -> None:
        self.app = app
        self.max_body = max_body
        self.larger = [(re.compile(pattern), most) for pattern, most in (larger or {}).items()]

    def _most(self, scope: Scope) -> int:
        if scope["method"] == "PUT":
            for pattern, most in self.larger:
                if pattern.fullmatch(scope["path"]):
                    return most
        return self.max_body

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        most = self._most(scope)
        too_large = ProblemError(
            413, "too-large", f"The request is larger than {most} bytes.", action="Send less at once."
        )
        headers: dict[bytes, bytes] = dict(scope.get("headers") or [])
        length = headers.get(b"content-length", b"0")
        if not length.isdigit() or int(length) > most:
            await problem_response(too_large.problem)(scope, receive, send)
            return
        seen = 0

        async def bounded() -> Message:
            nonlocal seen
            message: Any = await receive()
            seen += len(message.get("body", b""))
            if seen > most:
                raise too_large
            return message  # type: ignore[no-any-return]

        await self.app(scope, bounded, send)
