"""An OAuth 2 client of LS AAI: discovery, code, RFC 8693 exchange, refresh, RFC 7009 revocation, RFC 7662
introspection, userinfo.
"""

from __future__ import annotations

import base64
import hashlib
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlencode

import httpx

from gdi.kit import bounded_read

ACCESS, REFRESH = "urn:ietf:params:oauth:token-type:access_token", "urn:ietf:params:oauth:token-type:refresh_token"
EXCHANGE = "urn:ietf:params:oauth:grant-type:token-exchange"
SCOPE = "openid offline_access ga4gh_passport_v1"
MAX_ANSWER = 2 * 1024 * 1024
METADATA_FRESH = 3600


class OidcDenied(Exception):
    """The provider answered, and said no. `code` is the OAuth error (RFC 6749 §5.2), bounded; never a token."""

    def __init__(self, what: str, code: str) -> None:
        super().__init__(f"The identity provider refused {what}: {code}.")
        self.code = code


class OidcUnavailable(Exception):
    """No usable answer. `sent` False: the provider cannot have acted on it; True: it may have."""

    def __init__(self, what: str, why: str, *, sent: bool) -> None:
        super().__init__(f"The identity provider gave no usable answer to {what}: {why}.")
        self.sent = sent


@dataclass(frozen=True, repr=False)
class TokenSet:
    """Tokens as the provider gave them; times in epoch seconds."""

    access_token: str
    access_expires_at: float
    access_lifetime: float
    refresh_token: str | None
    refresh_expires_in: float | None

    def __repr__(self) -> str:
        return "TokenSet(…)"


class Oidc:
    """One provider, one client (client_secret_basic). `secret` is called for each request, so that a rotated file is
    seen.
    """

    def __init__(
        self, http: httpx.AsyncClient, issuer: str, client_id: str, secret: Callable[[], str], timeout: float = 10
    ) -> None:
        self._http, self.issuer, self.client_id, self._secret = http, issuer, client_id, secret
        self._timeout = httpx.Timeout(timeout, connect=min(5, timeout))
        self._metadata: dict[str, Any] = {}
        self._metadata_at = 0.0

    async def endpoint(self, name: str) -> str:
        """An endpoint from discovery (OpenID Connect Discovery 1.0 §4). The metadata's issuer must be the configured
        one.
        """
        if not self._metadata or time.monotonic() - self._metadata_at > METADATA_FRESH:
            try:
                found = await self._send("discovery", "GET", self.issuer + "/.well-known/openid-configuration")
                if str(found.get("issuer", "")).rstrip("/") != self.issuer:
                    raise OidcUnavailable("discovery", "its metadata names another issuer", sent=False)
                self._metadata, self._metadata_at = found, time.monotonic()
            except (OidcUnavailable, OidcDenied) as error:
                if not self._metadata:
                    raise OidcUnavailable("discovery", str(error), sent=False) from None
        url = self._metadata.get(name)
        if not isinstance(url, str):
            raise OidcUnavailable("discovery", f"it offers no {name}", sent=False)
        return url

    async def sign_in_url(self, *, redirect_uri: str, scope: str, state: str, verifier: str) -> str:
        """Where to send the browser: the authorization endpoint, with the S256 challenge of `verifier` (RFC 7636)."""
        challenge = base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()
        query = {
            "response_type": "code",
            "client_id": self.client_id,
            "redirect_uri": redirect_uri,
            "scope": scope,
            "state": state,
            "code_challenge": challenge,
            "code_challenge_method": "S256",
        }
        endpoint = await self.endpoint("authorization_endpoint")
        return f"{endpoint}{'&' if '?' in endpoint else '?'}{urlencode(query)}"

    async def code(self, code: str, verifier: str, redirect_uri: str) -> TokenSet:
        return await self._token(
            "the authorization code",
            grant_type="authorization_code",
            code=code,
            code_verifier=verifier,
            redirect_uri=redirect_uri,
            client_id=self.client_id,
        )

    async def exchange_for_refresh(self, access_token: str) -> TokenSet:
        """RFC 8693: a user's access token for a refresh token of the broker's own."""
        return await self._token(
            "the token exchange",
            grant_type=EXCHANGE,
            subject_token=access_token,
            subject_token_type=ACCESS,
            requested_token_type=REFRESH,
            scope=SCOPE,
        )

    async def refresh(self, refresh_token: str) -> TokenSet:
        return await self._token("the refresh", grant_type="refresh_token", refresh_token=refresh_token)

    async def narrow(self, access_token: str, audience: str) -> TokenSet:
        """RFC 8693 §2.1 `audience`: an access token that serves at one node only."""
        return await self._token(
            "the narrowing exchange",
            grant_type=EXCHANGE,
            subject_token=access_token,
            subject_token_type=ACCESS,
            requested_token_type=ACCESS,
            audience=audience,
        )

    async def revoke(self, token: str) -> None:
        """RFC 7009. An unknown token is no error there."""
        await self._send(
            "the revocation",
            "POST",
            await self.endpoint("revocation_endpoint"),
            {"token": token, "token_type_hint": "refresh_token"},
        )

    async def introspect(self, token: str, hint: str = "access_token") -> dict[str, Any]:
        """RFC 7662."""
        return await self._send(
            "the introspection",
            "POST",
            await self.endpoint("introspection_endpoint"),
            {"token": token, "token_type_hint": hint},
        )

    async def userinfo(self, access_token: str) -> dict[str, Any]:
        return await self._send("userinfo", "GET", await self.endpoint("userinfo_endpoint"), bearer=access_token)

    async def _token(self, what: str, **form: str) -> TokenSet:
        answer = await self._send(what, "POST", await self.endpoint("token_endpoint"), form)
        try:
            access = answer.get("access_token")
            refresh = answer.get("refresh_token")
            if answer.get("issued_token_type") == REFRESH and not refresh:
                # RFC 8693 §2.2.1: the issued token, whatever its type, comes in `access_token`; there is then no access
                # token yet.
                access, refresh = None, access
            lifetime = float(answer.get("expires_in", 0) or 0) if access else 0.0
            ends = answer.get("refresh_expires_in")
            if not (isinstance(access, str) and access) and not refresh:
                raise ValueError
            return TokenSet(
                access_token=access or "",
                access_expires_at=time.time() + lifetime,
                access_lifetime=lifetime,
                refresh_token=refresh if isinstance(refresh, str) and refresh else None,
                refresh_expires_in=float(ends) if ends else None,
            )
        except (TypeError, ValueError):
            raise OidcUnavailable(what, "its answer holds no token", sent=True) from None

    async def _send(
        self, what: str, method: str, url: str, form: dict[str, str] | None = None, *, bearer: str | None = None
    ) -> dict[str, Any]:
        headers = {"Accept": "application/json", **({"Authorization": f"Bearer {bearer}"} if bearer else {})}
        # RFC 6749 §2.3.1: both halves of the Basic credentials are form-encoded first.
        auth = (
            httpx.BasicAuth(quote(self.client_id, safe=""), quote(self._secret(), safe=""))
            if form is not None
            else None
        )
        try:
            async with self._http.stream(
                method, url, data=form, headers=headers, auth=auth, timeout=self._timeout, follow_redirects=False
            ) as answer:
                body = await bounded_read.aread(answer, MAX_ANSWER)
        except bounded_read.TooLargeError:
            raise OidcUnavailable(what, "the answer is too large", sent=True) from None
        except (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout) as error:
            raise OidcUnavailable(what, type(error).__name__, sent=False) from None
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise OidcUnavailable(what, type(error).__name__, sent=True) from None
        if answer.status_code == 429:
            raise OidcUnavailable(what, "HTTP 429", sent=False)
        if answer.status_code >= 500 or answer.is_redirect:
            raise OidcUnavailable(what, f"HTTP {answer.status_code}", sent=True)
        try:
            value = json.loads(body) if body.strip() else {}
        except ValueError:
            value = {} if answer.is_client_error or what == "the revocation" else None
        if answer.is_client_error:
            code = value.get("error") if isinstance(value, dict) else None
            raise OidcDenied(what, _safe_code(code) or f"http-{answer.status_code}")
        if not isinstance(value, dict):
            raise OidcUnavailable(what, "the answer is not a JSON object", sent=True)
        return value


def _safe_code(code: object) -> str:
    return code if isinstance(code, str) and len(code) <= 60 and code.replace("_", "").isalnum() else ""
