"""A person signs in with the browser: authorization code with PKCE (RFC 7636), `state`, `nonce` and RFC 9207's `iss`.

Broker and gateway use the same; what they keep of it differs.
"""

from __future__ import annotations

import contextlib
import hmac
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fastapi import Request, Response
from fastapi.responses import RedirectResponse

from gdi.kit.jose import KeysUnavailable, TokenError
from gdi.kit.problem import ProblemError
from gdi.kit.web import Cookies
from gdi.oauth.client import OAuthClient
from gdi.oauth.errors import OAuthDenied, OAuthUnavailable
from gdi.oauth.rfc6749 import TokenSet
from gdi.oauth.rfc7636 import CodeVerifier

MAX_SUBJECT = 255  # characters: OpenID Connect Core 1.0 §2


@dataclass(frozen=True, repr=False)
class SignedIn:
    """The user's `sub`, their tokens, and what `start` was given to keep."""

    user: str
    tokens: TokenSet
    kept: dict[str, Any]


class SignIn:
    """`cookie`: the name, known to `cookies`, under which a sign-in waits in the browser; `provider`: what people call
    the provider.
    """

    def __init__(
        self, client: OAuthClient, cookies: Cookies, *, cookie: str, callback: str, scope: str, provider: str
    ) -> None:
        self._client, self._cookies, self._cookie = client, cookies, cookie
        self._callback, self._scope, self._provider = callback, scope, provider

    async def start(self, kept: Mapping[str, str]) -> Response:
        """Sends the browser to the provider. `kept` comes back with `finish`. ProblemError 503."""
        state, nonce, verifier = secrets.token_urlsafe(24), secrets.token_urlsafe(24), CodeVerifier()
        try:
            away = await self._client.sign_in_url(
                redirect_uri=self._callback, scope=self._scope, state=state, nonce=nonce, verifier=verifier
            )
        except OAuthUnavailable:
            raise self._away() from None
        response = RedirectResponse(away, status_code=303)
        waiting = {"state": state, "nonce": nonce, "verifier": verifier.value, "kept": dict(kept)}
        self._cookies.put(response, self._cookie, waiting)
        return response

    async def finish(self, request: Request, *, state: str, code: str, iss: str) -> SignedIn:
        """After the provider sent the browser back. ProblemError: 403 where this browser did not start it or the
        provider refuses, 502 where the provider contradicts itself, 503 where it does not answer.
        """
        waiting = self._cookies.get(request, self._cookie)
        if (
            waiting is None
            or not {"nonce", "kept"} <= waiting.keys()
            or not hmac.compare_digest(state.encode("utf-8", "replace"), str(waiting["state"]).encode())
            or (iss and iss.removesuffix("/") != self._client.issuer)
        ):
            raise ProblemError(
                403,
                "forbidden",
                "This sign-in was not started in this browser, or it took too long.",
                action="Start again.",
            )
        try:
            promised = not iss and await self._client.promises_iss()
        except OAuthUnavailable:
            raise self._away() from None
        if promised:  # RFC 9207 §2.4: such a response may be another provider's
            raise self._refused(
                "sent you back without its name (iss)", "Start again; if that stays, tell the operator."
            )
        if not code:
            raise self._refused("did not sign you in", "Start again, and allow the access that is asked for.")
        try:
            tokens = await self._client.code(code, CodeVerifier(str(waiting["verifier"])), self._callback)
            try:
                user = await self._user(tokens, str(waiting["nonce"]))
            except Exception:
                await self._give_up(tokens)
                raise
        except OAuthDenied:
            raise self._refused("did not accept the sign-in", "Start again.") from None
        except OAuthUnavailable:
            raise self._away() from None
        return SignedIn(user, tokens, dict(waiting["kept"]))

    def end(self, response: Response) -> None:
        """The sign-in is over: nothing of it stays in the browser."""
        self._cookies.end(response, self._cookie)

    async def _user(self, tokens: TokenSet, nonce: str) -> str:
        try:
            user = (await self._client.id_token_claims(tokens, nonce)).get("sub")
        except KeysUnavailable:
            raise self._away() from None
        except TokenError:
            raise self._unclear() from None
        # §5.3.2: both must name the same user.
        named = (await self._client.userinfo(tokens.access_token)).get("sub")
        if not isinstance(user, str) or not 0 < len(user) <= MAX_SUBJECT or user != named:
            raise self._unclear()
        return user

    async def _give_up(self, tokens: TokenSet) -> None:
        """Nobody will ever use them: the refresh token is not to live on at the provider."""
        if tokens.refresh_token:
            with contextlib.suppress(OAuthDenied, OAuthUnavailable):
                await self._client.revoke(tokens.refresh_token)

    def _refused(self, what: str, action: str) -> ProblemError:
        return ProblemError(403, "sign-in-refused", f"{self._provider} {what}.", action=action)

    def _unclear(self) -> ProblemError:
        return ProblemError(502, "bad-answer", f"{self._provider} did not say who you are.", action="Try again later.")

    def _away(self) -> ProblemError:
        return ProblemError(
            503, "provider-unavailable", f"{self._provider} does not answer.", action="Try again in a minute."
        )
