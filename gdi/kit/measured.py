"""ASGI middleware of every server: each HTTP request is measured, each answer has the safe headers."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable

from starlette.types import ASGIApp, Message, Receive, Scope, Send

Headers = Iterable[tuple[bytes, bytes]]
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


class Measured:
    """`observe(scope, status, seconds)` after the last byte of an answer, or where the request broke off: 500.
    `headers(scope)` are added to an answer that has none of that name (in lower case).
    """

    def __init__(
        self, app: ASGIApp, observe: Callable[[Scope, int, float], None], headers: Callable[[Scope], Headers]
    ) -> None:
        self.app, self.observe, self.headers = app, observe, headers

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        status, began = 500, time.perf_counter()

        async def marked(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                given = list(message.get("headers", []))
                named = {name.lower() for name, _ in given}
                message["headers"] = [*given, *(h for h in self.headers(scope) if h[0] not in named)]
            await send(message)

        try:
            await self.app(scope, receive, marked)
        finally:
            self.observe(scope, status, time.perf_counter() - began)


def method(scope: Scope) -> str:
    """The request's method as a label: strangers' own words would make labels without end."""
    return scope["method"] if scope["method"] in METHODS else "other"


def route(scope: Scope) -> str:
    """The path of the route that answered, with the names of its parameters; `unknown` where none did."""
    return str(getattr(scope.get("route"), "path", "unknown"))
