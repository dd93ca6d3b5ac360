"""Credentials for a gateway or a TES as one `httpx.Auth`: cached until near their end; a 401 gets one fresh token and
one retry. RFC 6750, RFC 7617.
"""

from __future__ import annotations

import asyncio
import base64
import os
import re
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import httpx

from gdi.broker_client.client import AsyncBrokerClient
from gdi.contracts.run_file import RunFile
from gdi.contracts.tokens import TokenRequest
from gdi.kit import bearer
from gdi.kit.problem import ProblemError
from snakemake_tes_auth.retry import Refusal, transient

MIN_TTL = 65.0  # seconds a token must still live: as long as the longest single call (session.TIMEOUT) may take
LOOK_EVERY = (
    1.0  # seconds between two looks at a token file: a stat for each of ten thousand requests costs more than it tells
)
_TOKEN = re.compile(r"[A-Za-z0-9\-._~+/]+=*")  # RFC 6750 §2.1: anything else would be a header of its own


class TokenSource(bearer.TokenSource, Protocol):
    """ProblemError or httpx.TransportError where a fresh token may be had later, Refusal where it cannot."""

    async def aclose(self) -> None: ...


class NoToken:
    """For a TES that asks nobody who they are."""

    scheme = ""

    async def token(self, *, refused: str | None = None) -> str:
        return ""

    async def aclose(self) -> None:
        return None


class FixedToken:
    """A token given once, such as by the environment. `named` says where it came from."""

    scheme = "Bearer"

    def __init__(self, value: str, named: str) -> None:
        self._value = checked(value.strip(), named)
        self._named = named

    def __repr__(self) -> str:
        return f"FixedToken({self._named})"

    async def token(self, *, refused: str | None = None) -> str:
        if refused == self._value:
            raise Refusal(
                f"the token of {self._named} was refused: it has ended or is not for this server; put a fresh one there"
                " and start the same command again: tasks that run are found again (a token file or client credentials"
                " would be renewed meanwhile)"
            )
        return self._value

    async def aclose(self) -> None:
        return None


class FileTokens:
    """A token in a file that someone else keeps fresh (a mounted secret); looked at every second at most, read when it
    changed. One that was refused is looked for at once, and waited for to be replaced."""

    scheme = "Bearer"

    def __init__(self, path: Path) -> None:
        self._path = path
        self._read: tuple[object, str] = (None, "")  # what the file looked like, and what it held
        self._looked = -LOOK_EVERY  # monotonic

    def __repr__(self) -> str:
        return f"FileTokens({str(self._path)!r})"

    async def token(self, *, refused: str | None = None) -> str:
        now = time.monotonic()
        if now - self._looked < LOOK_EVERY and self._read[1] not in ("", refused):
            return self._read[1]
        seen, self._looked = _look(self._path), now
        if seen is None or seen != self._read[0] or self._read[1] == refused:
            self._read = (seen, self._encoded(secret_of(self._path, "token file")))
        value = self._read[1]
        if value == refused:
            raise ProblemError(
                503, "token-refused", f"The server refused what {self._path} holds, and it has not been replaced yet."
            )
        return value

    def _encoded(self, value: str) -> str:
        return checked(value, f"the token file {self._path}")

    async def aclose(self) -> None:
        return None


class BasicPassword(FileTokens):
    """HTTP Basic (RFC 7617), as Funnel has it: a user, and the password in a file."""

    scheme = "Basic"

    def __init__(self, user: str, path: Path) -> None:
        super().__init__(path)
        self._user = user

    def __repr__(self) -> str:
        return f"BasicPassword(user={self._user!r})"

    def _encoded(self, value: str) -> str:
        return base64.b64encode(f"{self._user}:{value}".encode()).decode()


class CachedTokens(ABC):
    """Tokens that are fetched: kept until near their end, one fetch at a time. `clock` gives epoch seconds."""

    scheme = "Bearer"

    def __init__(self, *, min_ttl: float = MIN_TTL, clock: Callable[[], float] = time.time) -> None:
        self._min_ttl = min_ttl
        self._clock = clock
        self._lock = asyncio.Lock()
        self._token: str | None = None
        self._until = 0.0
        self.fetched = 0

    async def token(self, *, refused: str | None = None) -> str:
        async with self._lock:
            # Whoever waited here for another's fetch takes that one: a burst of 401s costs one request.
            if self._token is not None and self._token != refused and self._clock() < self._until:
                return self._token
            token, expires_at = await self._fetch()
            # A token with a short life is used for at least half of it, or each call would fetch one.
            life = expires_at - self._clock()
            self._until = expires_at - min(self._min_ttl, life / 2)
            self._token = token
            self.fetched += 1
            return token

    @abstractmethod
    async def _fetch(self) -> tuple[str, float]:
        """A new token and when it ends (epoch seconds)."""

    @abstractmethod
    async def aclose(self) -> None: ...


class BrokerTokens(CachedTokens):
    """Run tokens of one run for one gateway: `POST /v1/runs/{id}/tokens` with the pod's identity token, which is read
    at each request.
    """

    def __init__(
        self,
        run: RunFile,
        identity: Path,
        *,
        min_ttl: float = MIN_TTL,
        transport: httpx.AsyncBaseTransport | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        super().__init__(min_ttl=min_ttl, clock=clock)
        self._run = run
        self._broker = AsyncBrokerClient(run.broker_url, bearer.token_file(identity), transport=transport)

    def __repr__(self) -> str:
        return f"BrokerTokens(run={self._run.run!r})"

    async def _fetch(self) -> tuple[str, float]:
        try:
            answer = await self._broker.token(
                self._run.run, TokenRequest(audience=self._run.audience, min_ttl=self._min_ttl)
            )
        except ProblemError as error:
            if transient(error):
                raise
            raise Refusal(
                f"the broker gives no run token for {self._run.node}: {error}",
                dataset=(error.problem.model_extra or {}).get("dataset"),
            ) from None
        except OSError as error:
            raise Refusal(f"the pod's identity token cannot be read: {error.strerror}") from None
        return answer.token, answer.expires_at

    async def aclose(self) -> None:
        await self._broker.aclose()


def _look(path: Path) -> object:
    """What changes when a file does; None where that cannot be told. Reading it for each of ten thousand requests would
    cost more than the requests.
    """
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


def secret_of(path: Path, what: str) -> str:
    """What a secret's file holds, without the white space around it. Refusal where it cannot be read; ProblemError
    while it is empty (being rewritten).
    """
    try:
        with path.open() as handle:
            value = handle.read(bearer.MAX_TOKEN_BYTES).strip()
    except (OSError, UnicodeDecodeError) as error:
        raise Refusal(
            f"the {what} {path} cannot be read: {getattr(error, 'strerror', None) or 'it is not text'}"
        ) from None
    if not value:
        raise ProblemError(503, "token-missing", f"The {what} {path} is empty.")
    return value


def checked(token: str, named: str) -> str:
    """A bearer token as it may stand in a header. Refusal otherwise, without a word of it."""
    if not _TOKEN.fullmatch(token):
        raise Refusal(f"{named} holds no bearer token: letters, digits and -._~+/= only, on one line")
    return token


def refuse_argument(option: str, variable: str) -> None:
    """Refusal where a token stands on the command line, which every user of the machine can read. It is taken out of
    the environment, which local rules and their commands would inherit."""
    if any(a == option or a.startswith(f"{option}=") for a in sys.argv):
        raise Refusal(
            f"a token does not belong on the command line, where every user of the machine can read it: set {variable}"
            f" instead of {option}"
        )
    os.environ.pop(variable, None)
