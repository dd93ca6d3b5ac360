"""A server that is being replaced: not ready any more, still answering, each answer the last of its connection; so that
a rolling update loses no request.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Generator
from types import FrameType

import uvicorn
from starlette.types import ASGIApp, Message, Receive, Scope, Send


class GracefulShutdown:
    """Whether the server drains. `seconds`: how long it still answers after the first signal; 0: it stops at once."""

    def __init__(self, seconds: float = 0) -> None:
        self.seconds = seconds
        self._until: float | None = None

    @property
    def draining(self) -> bool:
        return self._until is not None

    @property
    def over(self) -> bool:
        return self._until is not None and time.monotonic() >= self._until

    def begin(self) -> None:
        if self._until is None:
            self._until = time.monotonic() + self.seconds


class LastAnswers:
    """ASGI middleware: while draining, `Connection: close`. Clients go to another replica for their next request; none
    sends one into a closing connection.
    """

    def __init__(self, app: ASGIApp, drain: GracefulShutdown) -> None:
        self.app, self.drain = app, drain

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def closing(message: Message) -> None:
            if message["type"] == "http.response.start" and self.drain.draining:
                message["headers"] = [*message.get("headers", []), (b"connection", b"close")]
            await send(message)

        await self.app(scope, receive, closing if scope["type"] == "http" else send)


class SideServer(uvicorn.Server):
    """A server beside others in one event loop: signals are handled once, by its owner, who sets `should_exit`."""

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        yield


class GracefulServer(uvicorn.Server):
    """uvicorn that drains at the first SIGTERM or SIGINT, then stops gracefully; at the second it stops at once."""

    def __init__(self, config: uvicorn.Config, drain: GracefulShutdown) -> None:
        super().__init__(config)
        self.drain = drain

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        if self.started and self.drain.seconds and not self.drain.draining:
            self.drain.begin()
            self._captured_signals.append(sig)
        else:
            super().handle_exit(sig, frame)

    async def on_tick(self, counter: int) -> bool:
        if self.drain.over:
            self.should_exit = True
        return await super().on_tick(counter)
