"""Signing in at the node (authorization code with PKCE, RFC 7636): who the reviewer is, and nothing more; the access
token is dropped at once.
"""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Any

import httpx
from fastapi import Request, Response

from gdi.kit.jose import SigningKey
from gdi.kit.used_ids import UsedIds
from gdi.kit.web import Cookies
from node_gateway.settings import Settings

if TYPE_CHECKING:
    from gdi.oauth.client_auth import ClientAuthentication
    from gdi.oauth.sign_in import SignIn

SIGN_IN, SESSION = "gdi_review_signin", "gdi_review"
LIFETIMES = {SIGN_IN: 600, SESSION: 3600}


class ReviewSignIn:
    """One provider for the node's reviewers. A session names the user; whether they are a reviewer is asked at each
    request.
    """

    def __init__(self, flow: SignIn, cookies: Cookies) -> None:
        self._flow, self.cookies = flow, cookies

    @classmethod
    def of(cls, settings: Settings, key: SigningKey, http: httpx.AsyncClient, ended: UsedIds) -> ReviewSignIn | None:
        """None where the settings name no provider. SettingsError where the secret's file is not fit."""
        if settings.oidc_issuer is None or settings.oidc_client_id is None:
            return None
        from gdi.oauth.client import OAuthClient  # a node without sign-in does not need Authlib
        from gdi.oauth.connection import ProviderConnection
        from gdi.oauth.sign_in import SignIn

        authentication = client_authentication(settings)
        if authentication is None:
            return None
        cookies = Cookies(key, settings.public_url, "/review", LIFETIMES, ended)
        flow = SignIn(
            OAuthClient(ProviderConnection(http, settings.oidc_issuer, settings.oidc_client_id, authentication)),
            cookies,
            cookie=SIGN_IN,
            callback=f"{settings.public_url}/review/callback",
            scope="openid",
            provider="The identity provider",
        )
        return cls(flow, cookies)

    async def start(self, back: str) -> Response:
        """Sends the browser to the provider; afterwards it is sent to the path `back`."""
        return await self._flow.start({"back": back})

    async def finish(self, request: Request, *, state: str, code: str, iss: str) -> tuple[str, str]:
        """(the user's sub, where to go) after the provider sent the browser back. ProblemError as of SignIn."""
        signed_in = await self._flow.finish(request, state=state, code=code, iss=iss)
        return signed_in.user, str(signed_in.kept["back"])

    def open_session(self, response: Response, user: str) -> None:
        self.cookies.put(response, SESSION, {"sub": user, "csrf": secrets.token_urlsafe(24)})
        self._flow.end(response)

    async def session(self, request: Request) -> dict[str, Any] | None:
        """`{sub, csrf, …}`, or None."""
        return await self.cookies.session(request, SESSION)


def client_authentication(settings: Settings) -> ClientAuthentication | None:
    """How the node proves to the provider who it is. SettingsError where the file is not fit."""
    from gdi.oauth.client_auth.files import authentication_of

    names = "OIDC_CLIENT_SECRET_FILE", "OIDC_CLIENT_KEY_FILE"
    return authentication_of(settings.oidc_client_secret_file, settings.oidc_client_key_file, names)
