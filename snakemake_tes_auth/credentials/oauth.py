"""OAuth 2.0 client credentials (RFC 6749 §4.4): the token endpoint given, or found at the issuer (OpenID Connect
Discovery 1.0, RFC 8414).
"""

from __future__ import annotations

import ssl
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote_plus, urlsplit

import httpx

from gdi.kit.bounded_read import BoundedAsyncClient, TooLargeError
from gdi.kit.problem import ProblemError
from snakemake_tes_auth.credentials.tokens import MIN_TTL, CachedTokens, checked, secret_of
from snakemake_tes_auth.retry import TRANSIENT, Refusal

TIMEOUT = httpx.Timeout(20, connect=5)
DEFAULT_LIFE = 300.0  # seconds, where the server does not say (expires_in is only recommended, RFC 6749 §5.1)
MAX_LIFE = 86_400.0
MAX_ANSWER = 256 * 1024
LOOPBACK = ("127.0.0.1", "::1", "localhost")


class ClientCredentials(CachedTokens):
    """Tokens of a client of its own. The secret is read from its file at each fetch, so that it may be rotated, and
    goes into the header of that one call.

    Give `token_url` or `issuer`. `scope` and `audience` are sent where they are given.
    """

    def __init__(
        self,
        *,
        client_id: str,
        secret_file: Path,
        token_url: str | None = None,
        issuer: str | None = None,
        scope: str | None = None,
        audience: str | None = None,
        min_ttl: float = MIN_TTL,
        verify: ssl.SSLContext | bool = True,
        plain_http: bool = False,
        clock: Callable[[], float] = time.time,
    ) -> None:
        super().__init__(min_ttl=min_ttl, clock=clock)
        if (token_url is None) == (issuer is None):
            raise ValueError("either the token endpoint or the issuer")
        self._id, self._secret_file = client_id, secret_file
        self._url, self._issuer = token_url, issuer
        self._more = {k: v for k, v in (("scope", scope), ("audience", audience)) if v}
        self._in_form = False  # client_secret_post, only where the server takes nothing else
        self._plain_http = plain_http
        self._http = BoundedAsyncClient(max_answer=MAX_ANSWER, timeout=TIMEOUT, trust_env=False, verify=verify)

    def __repr__(self) -> str:
        return f"ClientCredentials(client_id={self._id!r})"

    async def aclose(self) -> None:
        await self._http.aclose()

    async def _fetch(self) -> tuple[str, float]:
        if self._url is None:
            self._url = await self._discover()
        check_secret_url(self._url, plain_http=self._plain_http)
        secret = secret_of(self._secret_file, "client secret's file")
        form = {"grant_type": "client_credentials", **self._more}
        if self._in_form:
            answer = await self._call("POST", self._url, data={**form, "client_id": self._id, "client_secret": secret})
        else:  # RFC 6749 §2.3.1: both are form-encoded before they become user and password
            answer = await self._call("POST", self._url, data=form, auth=(quote_plus(self._id), quote_plus(secret)))
        token, kind, life = (
            answer.get("access_token"),
            str(answer.get("token_type", "Bearer")),
            answer.get("expires_in"),
        )
        if not isinstance(token, str) or kind.lower() != "bearer":
            raise Refusal(f"the token endpoint {self._url} answered without a bearer token")
        seconds = (
            float(life) if isinstance(life, int | float) and not isinstance(life, bool) and life > 0 else DEFAULT_LIFE
        )
        return checked(token, f"the answer of {self._url}"), self._clock() + min(seconds, MAX_LIFE)

    async def _discover(self) -> str:
        assert self._issuer is not None
        check_secret_url(self._issuer, plain_http=self._plain_http)
        document = await self._call("GET", self._issuer.rstrip("/") + "/.well-known/openid-configuration")
        if str(document.get("issuer", "")).rstrip("/") != self._issuer.rstrip("/"):
            raise Refusal(
                f"{self._issuer} says that it is another issuer: {str(document.get('issuer'))[:200]!r}; give the issuer"
                " as it names itself"
            )
        found = document.get("token_endpoint")
        if not isinstance(found, str):
            raise Refusal(f"{self._issuer} names no token endpoint; give --tes-auth-token-url")
        methods = document.get("token_endpoint_auth_methods_supported") or ["client_secret_basic"]
        self._in_form = "client_secret_basic" not in methods and "client_secret_post" in methods
        return found

    async def _call(self, method: str, url: str, **arguments: Any) -> dict[str, Any]:
        """The answer as JSON. ProblemError 503 where trying again may help, Refusal with the server's own error code
        (RFC 6749 §5.2) where not.
        """
        try:
            answer = await self._http.request(method, url, headers={"Accept": "application/json"}, **arguments)
        except TooLargeError as error:
            raise Refusal(f"{url} gives client {self._id} no token: {error}") from None
        except httpx.TransportError as error:
            raise ProblemError(503, "token-endpoint-away", f"{url} does not answer ({type(error).__name__}).") from None
        try:
            body = answer.json()
        except ValueError:
            body = None
        if answer.is_success and isinstance(body, dict):
            return body
        if answer.status_code in TRANSIENT:
            raise ProblemError(503, "token-endpoint-away", f"{url} answered {answer.status_code}.")
        answer_body = body if isinstance(body, dict) else {}
        why = " ".join(printable(answer_body.get(k)) for k in ("error", "error_description")).strip()
        raise Refusal(
            f"{url} gives client {self._id} no token: {answer.status_code} {why}".rstrip()
            + "; check client id, secret, scope and audience"
        )


def check_secret_url(url: str, *, plain_http: bool) -> None:
    """Refusal where a credential would travel readable: plain HTTP to another machine."""
    parts = urlsplit(url)
    if parts.scheme == "https" or (parts.scheme == "http" and (plain_http or parts.hostname in LOOPBACK)):
        return
    raise Refusal(
        f"{url} is not https: a credential would be readable on its way; use https, or --tes-auth-plain-http within a"
        " network you trust"
    )


def printable(value: Any) -> str:
    return "".join(c if c.isprintable() else " " for c in str(value or ""))[:300]
