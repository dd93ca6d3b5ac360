"""A reader that takes nothing gives its place back in time, and the archive's answer is closed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any, cast

import httpx
import pytest

from node_gateway.context import Gateway
from node_gateway.data.routes import Streamed
from node_gateway.downloads import Download
from node_gateway.metrics import Metrics


class Stream(httpx.AsyncByteStream):
    closed = False

    async def __aiter__(self) -> AsyncIterator[bytes]:
        yield b"x"

    async def aclose(self) -> None:
        self.closed = True


async def chunks() -> AsyncIterator[bytes]:
    for _ in range(3):
        yield b"x" * 1000


@pytest.mark.parametrize("stuck", [False, True], ids=["reads", "stuck"])
async def test_a_stuck_reader_is_cut_off(stuck: bool) -> None:
    places = asyncio.Semaphore(1)
    await places.acquire()
    settings = SimpleNamespace(slow_reader_seconds=0.05)
    gateway = SimpleNamespace(settings=settings, metrics=Metrics(), data=SimpleNamespace(streams=places))
    stream = Stream()
    download = Download({}, chunks(), httpx.Response(200, stream=stream))
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)
        if stuck and len(sent) == 3:
            await asyncio.sleep(3600)

    async def receive() -> Any:
        await asyncio.sleep(3600)

    scope = {"type": "http", "asgi": {"version": "3.0", "spec_version": "2.3"}}
    async with asyncio.timeout(20):
        await Streamed(cast(Gateway, gateway), download.chunks, download)(scope, receive, send)
    assert stream.closed and not places.locked()
    ended = any(m["type"] == "http.response.body" and not m.get("more_body") for m in sent)
    assert ended is not stuck, "what is cut off never looks like the end"
