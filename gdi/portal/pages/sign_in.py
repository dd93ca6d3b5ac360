"""Signing in at the pages: authorization code with PKCE, then a session on the server's side. The browser's cookie says
who it is and opens the session's tokens; it holds none.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import time
from typing import Any

import httpx
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from fastapi import Request, Response

from gdi.kit.jose import SigningKey
from gdi.kit.problem import ProblemError
from gdi.kit.secret_files import read_secret
from gdi.kit.used_ids import UsedIds
from gdi.kit.web import Cookies
from gdi.oauth.client import SCOPE, OAuthClient
from gdi.oauth.client_auth.files import authentication_of
from gdi.oauth.connection import ProviderConnection
from gdi.oauth.errors import OAuthDenied, OAuthUnavailable
from gdi.oauth.rfc6749 import TokenSet
from gdi.oauth.session import shared_client
from gdi.oauth.sign_in import SignIn
from gdi.portal.db.sessions import LEASE, SessionStore, SessionTokens
from gdi.portal.db.store import PortalDatabase, used_ids
from gdi.portal.settings import Settings

SIGN_IN, SESSION = "gdi_portal_signin", "gdi_portal"
ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551  # of P-256 (SP 800-186, 3.2.1.3)
EARLY = 30.0  # seconds before its end at which a token is renewed, or a third of its life where that is less


class PortalSignIn:
    """`session` gives the cookie's claims `{sub, sid, csrf, …}`, `token` the person's access token."""

    def __init__(self, client: OAuthClient, cookies: Cookies, store: SessionStore, settings: Settings) -> None:
        self._client, self.cookies, self._store = client, cookies, store
        self._life = settings.session_seconds
        callback = f"{settings.public_url}/signed-in"
        self._flow = SignIn(client, cookies, cookie=SIGN_IN, callback=callback, scope=SCOPE, provider="LS AAI")

    @classmethod
    def of(
        cls, settings: Settings, store: PortalDatabase, *, provider: httpx.AsyncClient | None = None
    ) -> PortalSignIn | None:
        """None where the settings name no client: then there are no pages. SettingsError where its file is not fit."""
        authentication = authentication_of(
            settings.oidc_client_secret_file,
            settings.oidc_client_key_file,
            ("GDI_PORTAL_OIDC_CLIENT_SECRET_FILE", "GDI_PORTAL_OIDC_CLIENT_KEY_FILE"),
        )
        file = settings.oidc_client_secret_file or settings.oidc_client_key_file
        if settings.oidc_issuer is None or settings.oidc_client_id is None or authentication is None or file is None:
            return None
        key = signing_key(read_secret(file, "GDI_PORTAL_OIDC_CLIENT_…_FILE"))
        lifetimes = {SIGN_IN: 600, SESSION: settings.session_seconds}
        cookies = Cookies(key, settings.public_url, "/", lifetimes, UsedIds(store, used_ids))
        connection = ProviderConnection(
            provider or shared_client(), settings.oidc_issuer, settings.oidc_client_id, authentication
        )
        return cls(OAuthClient(connection), cookies, SessionStore(store), settings)

    async def start(self, back: str) -> Response:
        return await self._flow.start({"back": back})

    async def finish(self, request: Request, *, state: str, code: str, iss: str) -> tuple[str, dict[str, Any]]:
        """Where to go, and the session's claims for `open`. ProblemError as of SignIn."""
        signed_in = await self._flow.finish(request, state=state, code=code, iss=iss)
        secret = secrets.token_urlsafe(32)
        await self._store.put(secret, signed_in.user, _kept(signed_in.tokens, ""), time.time() + self._life)
        claims = {"sub": signed_in.user, "sid": secret, "csrf": secrets.token_urlsafe(24)}
        return str(signed_in.kept["back"]), claims

    def open(self, response: Response, claims: dict[str, Any]) -> None:
        self.cookies.put(response, SESSION, claims)
        self._flow.end(response)

    async def session(self, request: Request) -> dict[str, Any] | None:
        return await self.cookies.session(request, SESSION)

    async def checked_form(self, request: Request) -> tuple[dict[str, Any], dict[str, list[str]]]:
        return await self.cookies.checked_form(request, SESSION)

    async def token(self, claims: dict[str, Any]) -> str:
        """The session's access token, renewed where it is about to end; of many requests at once, by one.
        ProblemError 401 where the session is over, 503 where LS AAI is away.
        """
        secret = str(claims["sid"])
        for _ in range(int(LEASE / 0.2)):
            tokens = await self._store.get(secret)
            if tokens is None:
                raise session_over()
            if time.time() < tokens.renew_at:
                return tokens.access
            if await self._store.lease(secret):
                return await self._renew(secret, tokens)
            if tokens.until > time.time() + 1:
                return tokens.access
            await asyncio.sleep(0.2)
        raise _away()

    async def sign_out(self, claims: dict[str, Any], response: Response) -> None:
        """Ends the session here and its refresh token at LS AAI, where that can be reached."""
        secret = str(claims["sid"])
        tokens = await self._store.get(secret)
        await self._store.end(secret)
        await self.cookies.sign_out(claims, response, SESSION)
        if tokens is not None and tokens.refresh:
            with contextlib.suppress(OAuthDenied, OAuthUnavailable):
                await self._client.revoke(tokens.refresh)

    async def _renew(self, secret: str, tokens: SessionTokens) -> str:
        try:
            if not tokens.refresh:
                raise OAuthDenied("refresh", "invalid_grant")
            fresh = _kept(await self._client.refresh(tokens.refresh), tokens.refresh)
        except OAuthDenied:
            await self._store.end(secret)
            raise session_over() from None
        except OAuthUnavailable:
            await self._store.release(secret)
            if tokens.until > time.time() + 1:
                return tokens.access
            raise _away() from None
        await self._store.renewed(secret, fresh)
        return fresh.access


def signing_key(secret: bytes) -> SigningKey:
    """The key of the cookies, made of the client's own secret: all replicas have the same, and a new secret ends all
    sessions.
    """
    number = int.from_bytes(HKDF(hashes.SHA256(), 48, salt=None, info=b"gdi-portal-cookies").derive(secret))
    return SigningKey.of(ec.derive_private_key(number % (ORDER - 1) + 1, ec.SECP256R1()))


def session_over() -> ProblemError:
    return ProblemError(401, "unauthenticated", "Your session has ended.", action="Sign in again.")


def _away() -> ProblemError:
    return ProblemError(503, "provider-unavailable", "LS AAI does not answer.", action="Try again in a minute.")


def _kept(tokens: TokenSet, refresh: str) -> SessionTokens:
    until = tokens.access_expires_at
    early = min(EARLY, tokens.access_lifetime / 3)
    return SessionTokens(tokens.access_token, tokens.refresh_token or refresh, until, until - early)
