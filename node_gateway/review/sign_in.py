"""Signing in at the node (authorization code with PKCE, RFC 7636): who the reviewer is, and nothing more; the access
token is dropped at once.
"""

from __future__ import annotations

import hmac
import secrets
from typing import Any

import httpx
from fastapi import Request, Response
from fastapi.responses import RedirectResponse

from gdi.kit.jose import SigningKey
from gdi.kit.problem import ProblemError
from gdi.kit.web import Cookies
from gdi.oauth.client import Oidc, OidcDenied, OidcUnavailable
from node_gateway.settings import Settings, read_secret

SIGN_IN, SESSION = "gdi_review_signin", "gdi_review"
LIFETIMES = {SIGN_IN: 600, SESSION: 3600}


class SignIn:
    """One provider for the node's reviewers. A session names the user; whether they are a reviewer is asked at each
    request.
    """

    def __init__(self, oidc: Oidc, cookies: Cookies, callback: str) -> None:
        self._oidc, self.cookies, self._callback = oidc, cookies, callback

    @classmethod
    def of(cls, settings: Settings, key: SigningKey, http: httpx.AsyncClient) -> SignIn | None:
        """None where the settings name no provider. SettingsError where the secret's file is not fit."""
        issuer, client, file = settings.oidc_issuer, settings.oidc_client_id, settings.oidc_client_secret_file
        if issuer is None or client is None or file is None:
            return None
        read_secret(file, "OIDC_CLIENT_SECRET_FILE")
        oidc = Oidc(http, issuer, client, lambda: read_secret(file, "OIDC_CLIENT_SECRET_FILE").decode().strip())
        return cls(
            oidc, Cookies(key, settings.public_url, "/review", LIFETIMES), f"{settings.public_url}/review/callback"
        )

    async def start(self, back: str) -> Response:
        """Sends the browser to the provider; afterwards it is sent to the path `back`."""
        state, verifier = secrets.token_urlsafe(24), secrets.token_urlsafe(48)
        try:
            away = await self._oidc.sign_in_url(
                redirect_uri=self._callback, scope="openid", state=state, verifier=verifier
            )
        except OidcUnavailable:
            raise _away() from None
        response = RedirectResponse(away, status_code=303)
        self.cookies.put(response, SIGN_IN, {"state": state, "verifier": verifier, "back": back})
        return response

    async def finish(self, request: Request, *, state: str, code: str, iss: str) -> tuple[str, str]:
        """(the user's sub, where to go) after the provider sent the browser back. ProblemError 403 where this browser
        did not start it, 503 otherwise.
        """
        started = self.cookies.get(request, SIGN_IN)
        if (
            started is None
            or not hmac.compare_digest(state.encode("utf-8", "replace"), str(started["state"]).encode())
            or (iss and iss != self._oidc.issuer)
        ):
            raise ProblemError(
                403,
                "forbidden",
                "This sign-in was not started in this browser, or it took too long.",
                action="Start again.",
            )
        if not code:
            raise ProblemError(
                403, "sign-in-refused", "The identity provider did not sign you in.", action="Start again."
            )
        try:
            tokens = await self._oidc.code(code, str(started["verifier"]), self._callback)
            user = (await self._oidc.userinfo(tokens.access_token)).get("sub")
        except OidcDenied:
            raise ProblemError(
                403, "sign-in-refused", "The identity provider did not accept the sign-in.", action="Start again."
            ) from None
        except OidcUnavailable:
            raise _away() from None
        if not isinstance(user, str) or not 0 < len(user) <= 255:
            raise ProblemError(
                502, "bad-answer", "The identity provider did not say who you are.", action="Try again later."
            )
        return user, str(started["back"])

    def open_session(self, response: Response, user: str) -> None:
        self.cookies.put(response, SESSION, {"sub": user, "csrf": secrets.token_urlsafe(24)})
        self.cookies.end(response, SIGN_IN)

    def session(self, request: Request) -> dict[str, Any] | None:
        """`{sub, csrf, …}`, or None."""
        return self.cookies.get(request, SESSION)


def _away() -> ProblemError:
    return ProblemError(
        503, "provider-unavailable", "The identity provider does not answer.", action="Try again in a minute."
    )
