"""What every call to a provider is sent with: one shared, bounded HTTP client, and a judge who looks at status,
redirect, size and error before anybody parses a token.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import Any, NoReturn

import httpx

from gdi.kit import bounded_read
from gdi.kit.tls import authorities
from gdi.oauth.errors import DENIALS, OAuthDenied, OAuthUnavailable

GRACE = 2.0  # seconds, for httpx to end a call by itself and say what it waited for
MAX_ANSWER = 2 * 1024 * 1024  # bytes, decompressed; a userinfo answer carries all visas of a user
ACCEPT = {"Accept": "application/json"}
BEARER_ERROR = re.compile(r'\bBearer\b.*?\berror="?([a-z_]{1,60})', re.IGNORECASE | re.DOTALL)


def shared_client(timeout: float = 10, connections: int = 50) -> httpx.AsyncClient:
    """The HTTP client that all calls of a process to its provider share. `timeout` in seconds.

    No redirects, no proxy or netrc of the environment, no cookies: one user's must not serve another.
    """
    return httpx.AsyncClient(
        headers=bounded_read.CODINGS,
        cookies=CookieJar(DefaultCookiePolicy(allowed_domains=[])),
        trust_env=False,
        verify=authorities(),
        follow_redirects=False,
        timeout=httpx.Timeout(timeout, connect=min(5, timeout)),
        limits=httpx.Limits(max_connections=connections, max_keepalive_connections=20),
    )


@dataclass(frozen=True, repr=False)
class JudgedAnswer:
    """A good answer of the provider, in the form in which Authlib reads answers. `fields`: its JSON object."""

    fields: dict[str, Any]
    status_code: int = 200

    def json(self) -> dict[str, Any]:
        return dict(self.fields)


class JudgedSession:
    """The session of one call, named `what` in errors. OAuthDenied and OAuthUnavailable from each method.

    `timeout` (seconds) bounds each wait, and with two seconds more the whole call, however slowly the answer drips.
    """

    def __init__(self, http: httpx.AsyncClient, what: str, *, timeout: float, body_matters: bool = True) -> None:
        self._http, self._what, self._body_matters = http, what, body_matters
        self._timeout = httpx.Timeout(timeout, connect=min(5, timeout))
        self._deadline = timeout + GRACE

    async def post(
        self,
        url: str,
        data: Mapping[str, str],
        headers: Mapping[str, str] | None = None,
        auth: httpx.Auth | None = None,
    ) -> JudgedAnswer:
        """An authenticated form (RFC 6749 §3.2)."""
        return await self._send("POST", url, data=dict(data), headers={**(headers or {}), **ACCEPT}, auth=auth)

    async def get(self, url: str, bearer: str | None = None) -> JudgedAnswer:
        """A document, or a resource with a bearer token (RFC 6750 §2.1)."""
        headers = {**ACCEPT, **({"Authorization": f"Bearer {bearer}"} if bearer else {})}
        return await self._send("GET", url, headers=headers)

    async def _send(self, method: str, url: str, **request: Any) -> JudgedAnswer:  # request: httpx's own arguments
        try:
            async with (
                asyncio.timeout(self._deadline),
                self._http.stream(method, url, timeout=self._timeout, follow_redirects=False, **request) as answer,
            ):
                body = await bounded_read.aread(answer, MAX_ANSWER)
        except bounded_read.TooLargeError:
            self._unusable("the answer is too large")
        except (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout) as error:
            self._unusable(type(error).__name__, sent=False)
        except (httpx.HTTPError, httpx.InvalidURL, TimeoutError) as error:
            self._unusable(type(error).__name__)
        return self._judged(answer, body)

    def _judged(self, answer: httpx.Response, body: bytes) -> JudgedAnswer:
        status = answer.status_code
        if status == 429:
            self._unusable("HTTP 429", sent=False)
        if not 200 <= status < 300 and not 400 <= status < 500:
            self._unusable(f"HTTP {status}")
        fields = _json_object(body)
        error = fields.get("error") if fields is not None else None
        if status >= 400 and error is None:
            found = BEARER_ERROR.search(answer.headers.get("www-authenticate", "")[:2000])  # RFC 6750 §3
            error = found[1].lower() if found else None
        if isinstance(error, str) and error in DENIALS:
            raise OAuthDenied(self._what, error)
        if status >= 400 or error is not None:
            # A proxy's page, a rate limiter's JSON, "later": whoever wrote it, it is not the OAuth server saying no.
            self._unusable(f"HTTP {status}, {_named(error)}")
        if fields is None:
            if self._body_matters:
                self._unusable("the answer is not a JSON object")
            fields = {}
        return JudgedAnswer(fields, status)

    def _unusable(self, why: str, *, sent: bool = True) -> NoReturn:
        raise OAuthUnavailable(self._what, why, sent=sent) from None


def _json_object(body: bytes) -> dict[str, Any] | None:
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def _named(error: object) -> str:
    known = isinstance(error, str) and re.fullmatch(r"[A-Za-z0-9_-]{1,60}", error)
    return f"error {error}" if known else "no OAuth error"
