"""ASGI middleware of every server: a request's part in a trace."""

from __future__ import annotations

import logging
import time

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gdi.kit import tracing

log = logging.getLogger(__name__)


class Traced:
    """ASGI: a request's trace is that of its header, or the one that its handler enters. One line and one span for each
    request of a trace that changes something or reads data; none for who is not let in.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        header = next((value for name, value in scope["headers"] if name == b"traceparent"), b"")
        tracing.enter(header.decode("latin-1"))
        status, began = 500, time.time()

        async def seen(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self.app(scope, receive, seen)
        finally:
            route = str(getattr(scope.get("route"), "path", ""))
            if (traceparent := tracing.current()) and route and status != 401 and _logged(scope["method"], route):
                log.info("%s %s answered %d", scope["method"], route, status)
                attributes: dict[str, str | int] = {
                    "http.request.method": scope["method"],
                    "http.route": route,
                    "http.response.status_code": status,
                }
                tracing.record_span(f"{scope['method']} {route}", traceparent, began, **attributes)


def _logged(method: str, route: str) -> bool:
    """Not of who looks how things are, every few seconds."""
    return method not in ("GET", "HEAD") or route.startswith(("/s3", "/reads", "/variants"))
