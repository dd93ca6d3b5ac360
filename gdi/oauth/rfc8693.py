"""Token exchange (RFC 8693), of access tokens only: for a refresh token of our own, and for a narrower access token."""

from __future__ import annotations

from gdi.oauth import rfc6749
from gdi.oauth.connection import ProviderConnection
from gdi.oauth.errors import OAuthUnavailable

GRANT_TYPE = "urn:ietf:params:oauth:grant-type:token-exchange"
ACCESS_TYPE = "urn:ietf:params:oauth:token-type:access_token"
REFRESH_TYPE = rfc6749.REFRESH_TYPE


async def for_refresh_token(provider: ProviderConnection, access_token: str, scope: str) -> rfc6749.TokenSet:
    """A user's access token, issued to whichever client, for a refresh token of this client."""
    return await rfc6749.tokens(
        provider,
        "the token exchange",
        GRANT_TYPE,
        subject_token=access_token,
        subject_token_type=ACCESS_TYPE,
        requested_token_type=REFRESH_TYPE,
        scope=scope,
    )


async def for_audience(
    provider: ProviderConnection, access_token: str, audience: str, lasting: float
) -> rfc6749.TokenSet:
    """An access token that serves at `audience` only (§2.1). Where the provider tells no lifetime it is taken to end
    with `access_token`, after `lasting` seconds, or before.
    """
    what = "the narrowing exchange"
    found = await rfc6749.tokens(
        provider,
        what,
        GRANT_TYPE,
        lasting,
        subject_token=access_token,
        subject_token_type=ACCESS_TYPE,
        requested_token_type=ACCESS_TYPE,
        audience=audience,
    )
    if not found.access_token:
        raise OAuthUnavailable(what, "its answer holds no access token", sent=True)
    return found
