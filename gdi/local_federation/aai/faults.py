"""Faults on order, for tests of those who use this provider: an endpoint answers late, breaks, or does its work and
then never says so.
"""

from __future__ import annotations

import asyncio
from typing import Literal

from fastapi import APIRouter, Depends, Request
from fastapi.responses import HTMLResponse, JSONResponse, Response
from pydantic import Field, SecretStr
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gdi.kit.models import Strict
from gdi.local_federation.aai.oauth import OAuthError, same


class Fault(Strict):
    """The next `count` requests to `path` wait `delay` seconds, before or after the work is done; then answer `status`
    instead, where given, with `body` (as a proxy would) where given.
    """

    path: str = Field(pattern=r"^/[a-z/]{1,60}$")
    when: Literal["before", "after"] = "before"
    delay: float = Field(default=0, ge=0, le=120)
    status: int | None = Field(default=None, ge=200, le=599)
    body: str | None = Field(default=None, max_length=10_000)
    count: int = Field(default=1, ge=0, le=100_000)


class Faults:
    """`PUT /oidc/admin/faults` with a list of faults replaces those there are, `[]` ends them; `GET` tells those still
    to come. Needs `X-Admin-Key`.
    """

    def __init__(self, admin_key: SecretStr) -> None:
        self.admin_key = admin_key
        self.active: list[Fault] = []

    def routes(self) -> APIRouter:
        router = APIRouter()

        def operator(request: Request) -> None:
            if not same(request.headers.get("x-admin-key", ""), self.admin_key.get_secret_value()):
                raise OAuthError("access_denied", "Send the operator's key: X-Admin-Key.", 401)

        @router.put("/oidc/admin/faults", dependencies=[Depends(operator)])
        async def put(faults: list[Fault]) -> JSONResponse:
            self.active = faults[:50]
            return JSONResponse({"active": len(self.active)})

        @router.get("/oidc/admin/faults", dependencies=[Depends(operator)])
        async def get() -> list[Fault]:
            return [fault for fault in self.active if fault.count > 0]

        return router

    def take(self, path: str) -> Fault | None:
        for fault in self.active:
            if fault.path == path and fault.count > 0:
                fault.count -= 1
                return fault
        return None

    def middleware(self, app: ASGIApp) -> ASGIApp:
        async def wrapped(scope: Scope, receive: Receive, send: Send) -> None:
            fault = self.take(scope["path"]) if scope["type"] == "http" and self.active else None
            if fault is None:
                await app(scope, receive, send)
                return
            refusal: Response | None = None
            if fault.status and fault.body is not None:
                refusal = HTMLResponse(fault.body, fault.status)
            elif fault.status:
                refusal = JSONResponse({"error": "temporarily_unavailable"}, fault.status)
            if fault.when == "before":
                await asyncio.sleep(fault.delay)
                await (refusal or app)(scope, receive, send)
                return
            messages: list[Message] = []

            async def hold(message: Message) -> None:
                messages.append(message)

            await app(scope, receive, hold)
            await asyncio.sleep(fault.delay)
            if refusal is not None:
                await refusal(scope, receive, send)
                return
            for message in messages:
                await send(message)

        return wrapped
