"""OpenID Connect Core 1.0: who signed in (§3.1.3.7, the ID token) and what the provider says of them (§5.3)."""

from __future__ import annotations

import hmac
from typing import Any

from gdi.kit.jose import TokenError
from gdi.oauth.connection import ProviderConnection


async def userinfo(provider: ProviderConnection, access_token: str) -> dict[str, Any]:
    """The claims about the user of the access token, GA4GH passport visas among them."""
    url = await provider.endpoint("userinfo_endpoint")
    return (await provider.session("userinfo").get(url, bearer=access_token)).fields


async def id_token_claims(provider: ProviderConnection, id_token: str | None, nonce: str) -> dict[str, Any]:
    """The claims of an ID token made for this client and for the sign-in of `nonce`. TokenError, OAuthUnavailable."""
    if id_token is None:
        raise TokenError("the answer holds no ID token")
    issuer = await provider.own_issuer()
    claims = await (await provider.keys()).verify(id_token, issuer=issuer, audience=provider.client_id)
    alone = claims["aud"] in (provider.client_id, [provider.client_id])  # of several audiences `azp` says which asked
    if claims.get("azp", provider.client_id if alone else None) != provider.client_id:
        raise TokenError("the ID token was made for another client")
    if not hmac.compare_digest(str(claims.get("nonce", "")).encode("utf-8", "replace"), nonce.encode()):
        raise TokenError("the ID token is of another sign-in")
    return claims
