"""The OAuth client of LS AAI, as broker and gateway use it: each method is one call, made by the module of its
standard.
"""

from __future__ import annotations

from typing import Any

from gdi.oauth import openid_core, rfc6749, rfc7009, rfc7662, rfc8693
from gdi.oauth.connection import ProviderConnection
from gdi.oauth.rfc6749 import TokenSet
from gdi.oauth.rfc7636 import CodeVerifier

SCOPE = "openid offline_access ga4gh_passport_v1"


class OAuthClient:
    """One client at one provider. Each method raises OAuthDenied where the provider says no, and OAuthUnavailable where
    it gives no usable answer.
    """

    def __init__(self, provider: ProviderConnection, narrows_by: rfc8693.Target = "audience") -> None:
        self._provider, self._narrows_by = provider, narrows_by

    @property
    def issuer(self) -> str:
        return self._provider.issuer

    async def discover(self) -> None:
        """Fetches the provider's metadata where it is unknown or old, so that the next call is one request."""
        await self._provider.endpoint("token_endpoint")

    async def sign_in_url(
        self, *, redirect_uri: str, scope: str, state: str, nonce: str, verifier: CodeVerifier
    ) -> str:
        return await rfc6749.authorization_url(
            self._provider, redirect_uri=redirect_uri, scope=scope, state=state, nonce=nonce, verifier=verifier
        )

    async def promises_iss(self) -> bool:
        """Whether each authorization response of the provider carries `iss` (RFC 9207 §3)."""
        return await self._provider.promises_iss()

    async def code(self, code: str, verifier: CodeVerifier, redirect_uri: str) -> TokenSet:
        return await rfc6749.redeem_code(self._provider, code, verifier, redirect_uri)

    async def refresh(self, refresh_token: str) -> TokenSet:
        """The caller stores what it gives before it looks at its `fault`."""
        return await rfc6749.refresh(self._provider, refresh_token)

    async def exchange_for_refresh(self, access_token: str) -> TokenSet:
        """A user's access token for a refresh token of the broker's own."""
        return await rfc8693.for_refresh_token(self._provider, access_token, SCOPE)

    async def narrow(self, access_token: str, audience: str, *, lasting: float) -> TokenSet:
        """An access token that serves at one node only. `lasting`: seconds that `access_token` has left."""
        return await rfc8693.for_audience(self._provider, access_token, audience, lasting, self._narrows_by)

    async def revoke(self, token: str) -> None:
        await rfc7009.revoke(self._provider, token)

    async def introspect(self, token: str, hint: str = "access_token") -> dict[str, Any]:
        return await rfc7662.introspect(self._provider, token, hint)

    async def userinfo(self, access_token: str) -> dict[str, Any]:
        return await openid_core.userinfo(self._provider, access_token)

    async def id_token_claims(self, tokens: TokenSet, nonce: str) -> dict[str, Any]:
        """Who signed in. kit.jose.TokenError where the ID token is not acceptable."""
        return await openid_core.id_token_claims(self._provider, tokens.id_token, nonce)
