"""Authlib's OAuth 2 client over our session. One lives for one call only: Authlib's client keeps the last token it
saw, and would use it again.

Authlib's protocol core is used, not its httpx integration, which switches to another HTTP library (httpx2) wherever
that happens to be installed.
"""

from __future__ import annotations

from collections.abc import Awaitable, Generator
from typing import Any

import httpx
from authlib.oauth2.auth import ClientAuth
from authlib.oauth2.client import OAuth2Client

from gdi.oauth.session import JudgedAnswer, JudgedSession
from gdi.oauth.token_times import with_safe_times


class HttpxClientAuth(httpx.Auth, ClientAuth):  # type: ignore[misc]  # Authlib has no types
    """Authlib's client authentication, put on an httpx request."""

    requires_request_body = True

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        url, headers, body = self.prepare(request.method, str(request.url), request.headers, request.content)
        headers["Content-Length"] = str(len(body))
        yield httpx.Request(request.method, url, headers=headers, content=body, extensions=request.extensions)


class AuthlibClient(OAuth2Client):  # type: ignore[misc]  # Authlib has no types
    """`fetch_token`, `revoke_token` and `introspect_token` each give an awaitable. OAuthDenied, OAuthUnavailable."""

    client_auth_class = HttpxClientAuth

    def __init__(
        self,
        session: JudgedSession,
        client_id: str,
        method: str,
        credentials: tuple[Any, Any],
    ) -> None:
        """`method` and `credentials`: a ClientAuthentication's, prepared for this call."""
        secret, authlib_method = credentials
        super().__init__(
            session,
            client_id,
            secret,
            token_endpoint_auth_method=method,
            revocation_endpoint_auth_method=method,
        )
        self.register_client_auth_method(authlib_method)

    async def parse_response_token(self, resp: Awaitable[JudgedAnswer]) -> dict[str, Any]:
        """The token answer. Its times are put right first: Authlib raises at `expires_in: "x"`, and the new refresh
        token would be lost.
        """
        answer = await resp
        found: dict[str, Any] = super().parse_response_token(JudgedAnswer(with_safe_times(answer.fields)))
        return found
