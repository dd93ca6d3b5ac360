"""Pages of other origins (CORS) as the operator lists them, and HEAD wherever there is a GET."""

from __future__ import annotations

from fastapi import FastAPI
from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gdi.portal.settings import Settings

HEADERS = ["Authorization", "Content-Type", "Idempotency-Key", "Accept"]


def install(app: FastAPI, settings: Settings) -> None:
    """No cookie is ever allowed: these calls carry a token. An origin that is not listed gets no header."""
    app.add_middleware(
        CORSMiddleware,
        allow_origins=settings.cors_origins,
        allow_methods=["GET", "HEAD", "POST", "PUT", "DELETE"],
        allow_headers=HEADERS,
        expose_headers=["Location", "Retry-After", "Content-Disposition"],
        max_age=600,
    )


class HeadAsGet:
    """ASGI middleware: HEAD is GET whose body is left out (RFC 9110 §9.3.2)."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] != "HEAD":
            await self.app(scope, receive, send)
            return

        async def without_body(message: Message) -> None:
            if message["type"] == "http.response.body":
                if not message.get("more_body", False):
                    await send({"type": "http.response.body", "body": b"", "more_body": False})
                return
            await send(message)

        await self.app({**scope, "method": "GET"}, receive, without_body)
