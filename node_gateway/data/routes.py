"""`GET|HEAD /s3/DATASET/path` and `/s3-encrypted/…` on the internal listener: what an `sda://` URL becomes at the
TES. DATASET is its name (`ids.dataset_name`), HTTP-encoded as any part of a path, which is what Funnel does with it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator

from fastapi import APIRouter, Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.types import Message, Receive, Scope, Send

from gdi.contracts.urls import SdaUrl
from gdi.kit.problem import ProblemError
from node_gateway.context import Gateway
from node_gateway.data.service import Denied
from node_gateway.downloads import Download
from node_gateway.locations import sda_file

STREAM_WAIT = 300
log = logging.getLogger(__name__)


def router(gateway: Gateway) -> APIRouter:
    routes = APIRouter()
    data = gateway.data

    def deny(denied: Denied, path: str) -> Response:
        # Funnel panics on a 4xx or 5xx; what is not Crypt4GH it reports as a clean error of the task.
        status = 200 if gateway.settings.tes_flavour == "funnel" and path.endswith(".c4gh") else denied.status
        return PlainTextResponse(f"gateway: {denied.error_class}: {denied.reason}\n", status_code=status)

    @routes.api_route("/s3/{name}/{path:path}", methods=["GET", "HEAD"])
    @routes.api_route("/s3-encrypted/{name}/{path:path}", methods=["GET", "HEAD"])
    async def read(request: Request, name: str, path: str) -> Response:
        scheme, _, capability = request.headers.get("authorization", "").partition(" ")
        try:
            try:
                file = sda_file(str(SdaUrl(name, path)))
            except ProblemError as error:
                await gateway.auth.refuse(f"{request.method} {request.url.path}", error)
                raise Denied(403, "AccessDenied", error.problem.detail) from None
            await free_stream(data.streams)
            streaming = False
            try:
                capability = capability.strip() if scheme.lower() == "bearer" else ""
                public_key = request.headers.get("client-public-key", "")
                known, download = await data.open(
                    file, capability=capability, public_key=public_key, method=request.method
                )
                if request.method == "HEAD":
                    await download.close()
                    return Response(headers=download.headers, media_type="application/octet-stream")
                streaming = True
            finally:
                if not streaming:
                    data.streams.release()
        except Denied as denied:
            return deny(denied, path)
        return Streamed(gateway, data.stream(known, file, download), download)

    return routes


class Streamed(StreamingResponse):
    """Gives the stream's place back however the answer ends, also when it never began. A reader that takes nothing for
    `SLOW_READER_SECONDS` is cut off: its place is another's.
    """

    def __init__(self, gateway: Gateway, chunks: AsyncIterator[bytes], download: Download, status: int = 200) -> None:
        super().__init__(chunks, status, headers=download.headers, media_type="application/octet-stream")
        self._gateway, self._download = gateway, download

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._gateway.metrics.streams.inc()
        patience = self._gateway.settings.slow_reader_seconds

        async def in_time(message: Message) -> None:
            try:
                async with asyncio.timeout(patience):  # the server waits here while its buffer is full
                    await send(message)
            except TimeoutError:
                log.warning("a reader took nothing for %g s: its download is cut off", patience)
                raise Denied(503, "Busy", f"The reader took nothing for {patience:g} s.") from None

        try:
            await super().__call__(scope, receive, in_time)
        except* Denied:
            pass  # told already; the answer is left unfinished, upon which the server breaks the connection
        finally:
            self._gateway.metrics.streams.dec()
            self._gateway.data.streams.release()
            await self._download.close()


async def free_stream(streams: asyncio.Semaphore) -> None:
    """A place among MAX_STREAMS, which `Streamed` gives back. Denied where none is free in time."""
    try:
        await asyncio.wait_for(streams.acquire(), STREAM_WAIT)
    except TimeoutError:
        raise Denied(503, "Busy", f"No free stream for {STREAM_WAIT} s: too many reads at once.") from None
