"""Bearer tokens on requests (RFC 6750): given at each request by their source, so that a rotated token is used at
once.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Generator
from pathlib import Path
from typing import Protocol

import httpx

MAX_TOKEN_BYTES = 64 * 1024
Credential = Callable[[], str]


class TokenSource(Protocol):
    """Where an asynchronous client has its tokens from. `refused`: a token that the server did not take."""

    @property
    def scheme(self) -> str:
        """Before the token in the header: `Bearer`, or `Basic`."""

    async def token(self, *, refused: str | None = None) -> str:
        """A token that is good now; empty: none is sent."""


def token_file(path: str | Path) -> Credential:
    """A credential read from a file at each request: projected tokens are rewritten before they expire. OSError."""

    def read() -> str:
        with Path(path).open() as file:
            return file.read(MAX_TOKEN_BYTES).strip()

    return read


class BearerAuth(httpx.Auth):
    """Puts the token of `source` on each request. A TokenSource is for asynchronous clients only; a token of its that
    the server answers with 401 is replaced once.
    """

    def __init__(self, source: Credential | TokenSource) -> None:
        self._source = source

    def sync_auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        if not callable(self._source):
            raise RuntimeError("this source of tokens is for asynchronous clients")
        request.headers["Authorization"] = f"Bearer {self._source()}"
        yield request

    async def async_auth_flow(self, request: httpx.Request) -> AsyncGenerator[httpx.Request, httpx.Response]:
        if callable(self._source):
            request.headers["Authorization"] = f"Bearer {self._source()}"
            yield request
            return
        token = await self._source.token()
        if not token:
            yield request
            return
        request.headers["Authorization"] = f"{self._source.scheme} {token}"
        answer = yield request
        if answer.status_code == 401:
            request.headers["Authorization"] = f"{self._source.scheme} {await self._source.token(refused=token)}"
            yield request
