"""One writing request at a time, for an api-server on SQLite.

Airflow 3.3 writes its audit log on the event loop (`action_logging`), and a request's own writes are committed only
once the event loop runs it on. SQLite has one writer: where one request has written and not yet committed, the next
one's audit entry waits for that lock on the very loop that would end it, and all of the api-server stands still until
SQLite's `timeout` turns the waiting one into a 500. Databases that lock rows do not have this, and get no turns.
"""

from __future__ import annotations

import asyncio
from collections.abc import MutableMapping
from contextlib import AsyncExitStack
from typing import Any

from starlette.types import ASGIApp, Receive, Scope, Send

READS = {"GET", "HEAD", "OPTIONS"}


class SqliteWriteLock:
    """ASGI middleware. A turn begins with the whole body (a slow sender holds nobody up) and ends as the answer begins,
    before which Airflow commits.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app
        self._turn = asyncio.Lock()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] in READS:
            return await self.app(scope, receive, send)
        body = [await receive()]
        while body[-1].get("more_body"):
            body.append(await receive())
        body.reverse()

        async def again() -> MutableMapping[str, Any]:
            return body.pop() if body else await receive()

        async with AsyncExitStack() as turn:
            await turn.enter_async_context(self._turn)

            async def answer(message: MutableMapping[str, Any]) -> None:
                if message["type"] == "http.response.start":
                    await turn.aclose()
                await send(message)

            await self.app(scope, again, answer)
