"""The agent's own gateway: releases and the end of an attempt, under tokens that the node makes for itself."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from tempfile import SpooledTemporaryFile
from typing import IO

import httpx

from gdi.broker_client.client import as_problem, read
from gdi.contracts.gateway_api import (
    AGENT_TYPE,
    CloseAttempt,
    Closed,
    GatewayHealth,
    Released,
    ReleaseRequest,
    Review,
    RoundProgress,
    RoundTask,
)
from gdi.kit.bearer import BearerAuth
from gdi.kit.bounded_read import BoundedAsyncClient, aparts
from gdi.kit.jose import SigningKey
from gdi.kit.problem import ProblemError
from gdi.kit.tls import authorities
from node_gateway.node_orders import NodeOrder

SPOOL = 4 * 1024 * 1024  # bytes kept in memory of a release that is on its way
REVIEW_WAIT = 15.0


class OwnGateway:
    def __init__(self, url: str, key: SigningKey, node: str, audience: str) -> None:
        self._key, self._node, self._audience = key, node, audience
        self._http = BoundedAsyncClient(
            base_url=url, timeout=httpx.Timeout(300, connect=5), trust_env=False, verify=authorities()
        )

    async def aclose(self) -> None:
        await self._http.aclose()

    def _auth(self, order: NodeOrder, scope: str) -> BearerAuth:
        return BearerAuth(lambda: order.token(self._key, self._node, self._audience, scope))

    async def ready(self) -> bool:
        try:
            return (await self._http.get("/readyz", timeout=5)).is_success
        except httpx.HTTPError:
            return False

    async def health(self) -> dict[str, str]:
        """Of the gateway, and of what it leans on as far as it says."""
        found = {"gateway": "ok" if await self.ready() else "not ready"}
        claims = {"iss": self._node, "aud": self._audience}
        auth = BearerAuth(lambda: self._key.sign(claims, lifetime=60, typ=AGENT_TYPE))
        try:
            return {**read(await self._http.get("/health", auth=auth, timeout=5), GatewayHealth).checks, **found}
        except (ProblemError, httpx.HTTPError):  # it is away, or older than its agent
            return found

    async def ask_release(self, order: NodeOrder, request: ReleaseRequest) -> Released | None:
        """None while a person has to look. ProblemError as `POST /releases/{run}`."""
        body = request.model_dump(mode="json")
        answer = await self._http.post(f"/releases/{order.run}", json=body, auth=self._auth(order, "releases"))
        return None if answer.status_code == 202 else read(answer, Released)

    async def ask_round(self, order: NodeOrder, task: RoundTask) -> RoundProgress:
        body = task.model_dump(mode="json")
        answer = await self._http.post(f"/rounds/{order.run}", json=body, auth=self._auth(order, "releases"))
        return read(answer, RoundProgress)

    async def review(self, order: NodeOrder, name: str) -> str:
        """How the review stands, after a decision or some seconds."""
        path = f"/releases/{order.run}/{name}/review"
        answer = await self._http.get(path, params={"wait": REVIEW_WAIT}, auth=self._auth(order, "releases"))
        return read(answer, Review).state

    @asynccontextmanager
    async def published(self, order: NodeOrder, released: Released) -> AsyncIterator[IO[bytes]]:
        """The published bytes in a file, proven by their checksum."""
        path = f"/releases/{order.run}/{released.name}"
        with SpooledTemporaryFile(max_size=SPOOL) as file:
            total, size = hashlib.sha256(), 0
            async with self._http.stream("GET", path, auth=self._auth(order, "releases")) as answer:
                if not answer.is_success:
                    body = await answer.aread()
                    raise as_problem(httpx.Response(answer.status_code, content=body, request=answer.request))
                async for piece in aparts(answer):
                    size += len(piece)
                    total.update(piece)
                    file.write(piece)
            if total.hexdigest() != released.sha256 or (released.bytes and size != released.bytes):
                raise ProblemError(
                    502, "release-damaged", f"The stored release {released.name} is not what was signed."
                )
            file.seek(0)
            yield file

    async def close(self, order: NodeOrder) -> int:
        """How many tasks were cancelled."""
        body = CloseAttempt(attempt=order.attempt).model_dump()
        answer = await self._http.post(f"/runs/{order.run}/close", json=body, auth=self._auth(order, "close"))
        return read(answer, Closed).cancelled
