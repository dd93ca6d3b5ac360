"""Tokens for a gateway or a TES as one `httpx.Auth`: cached until near their end; a 401 gets one fresh token and one retry."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Protocol

import httpx

from broker_client.client import AsyncBrokerClient, token_file
from broker_client.models import TokenRequest
from gdi_common.problem import ProblemError
from snakemake_tes_auth.retry import Refused, transient
from snakemake_tes_auth.runfile import RunFile

MIN_TTL = 30.0  # seconds a token must still live: the longest single call
MAX_TOKEN_BYTES = 64 * 1024


class TokenSource(Protocol):
    """Gives a bearer token; another than `refused`, where a server did not take that one."""

    async def token(self, *, refused: str | None = None) -> str: ...

    async def aclose(self) -> None: ...


class FileTokens:
    """A token in a file that someone else keeps fresh; read at each request."""

    def __init__(self, path: Path) -> None:
        self._path = path

    async def token(self, *, refused: str | None = None) -> str:
        try:
            with self._path.open() as handle:
                value = handle.read(MAX_TOKEN_BYTES).strip()
        except OSError as error:
            raise Refused(f"the token file {self._path} cannot be read: {error.strerror}") from None
        if not value:
            raise Refused(f"the token file {self._path} is empty")
        return value

    async def aclose(self) -> None:
        return None


class BrokerTokens:
    """Run tokens of one run for one gateway: `POST /v1/runs/{id}/tokens` with the pod's identity token, which is read at each request.

    ProblemError or httpx.TransportError where the broker is away (worth a retry), Refused where it says no.
    """

    def __init__(self, run: RunFile, identity: Path, *, min_ttl: float = MIN_TTL, transport: httpx.AsyncBaseTransport | None = None) -> None:
        self._run = run
        self._min_ttl = min_ttl
        self._broker = AsyncBrokerClient(run.broker_url, token_file(identity), transport=transport)
        self._lock = asyncio.Lock()
        self._token: str | None = None
        self._until = 0.0
        self.fetched = 0

    def __repr__(self) -> str:
        return f"BrokerTokens(run={self._run.run!r})"

    async def token(self, *, refused: str | None = None) -> str:
        async with self._lock:
            # Whoever waited here for another's fetch takes that one: a burst of 401s costs one request.
            if self._token is not None and self._token != refused and time.time() < self._until:
                return self._token
            try:
                answer = await self._broker.token(self._run.run, TokenRequest(audience=self._run.audience, min_ttl=self._min_ttl))
            except ProblemError as error:
                if transient(error):
                    raise
                raise Refused(
                    f"the broker gives no run token for {self._run.node}: {error}", dataset=(error.problem.model_extra or {}).get("dataset")
                ) from None
            except OSError as error:
                raise Refused(f"the pod's identity token cannot be read: {error.strerror}") from None
            self._token = answer.token
            # A token with a short life is used for at least half of it, or each call would fetch one.
            life = answer.expires_at - time.time()
            self._until = answer.expires_at - min(self._min_ttl, life / 2)
            self.fetched += 1
            return answer.token

    async def aclose(self) -> None:
        await self._broker.aclose()


class TokenAuth(httpx.Auth):
    """Puts the source's token on each request. RFC 6750. Only for asynchronous clients: all of this package's calls run on one loop."""

    def __init__(self, source: TokenSource) -> None:
        self._source = source

    async def async_auth_flow(self, request: httpx.Request) -> AsyncGenerator[httpx.Request, httpx.Response]:
        token = await self._source.token()
        request.headers["Authorization"] = f"Bearer {token}"
        answer = yield request
        if answer.status_code == 401:
            request.headers["Authorization"] = f"Bearer {await self._source.token(refused=token)}"
            yield request
