"""Token exchange (RFC 8693), of access tokens only: for a refresh token of our own, and for a narrower access token."""

from __future__ import annotations

from typing import Literal

import jwt

from gdi.oauth import rfc6749
from gdi.oauth.connection import ProviderConnection
from gdi.oauth.errors import NotNarrowed, OAuthUnavailable

GRANT_TYPE = "urn:ietf:params:oauth:grant-type:token-exchange"
ACCESS_TYPE = "urn:ietf:params:oauth:token-type:access_token"
REFRESH_TYPE = rfc6749.REFRESH_TYPE
Target = Literal["audience", "resource"]  # §2.1; `resource` is what RFC 8707 names


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
    provider: ProviderConnection, access_token: str, audience: str, lasting: float, target: Target = "audience"
) -> rfc6749.TokenSet:
    """An access token that serves at `audience` only, which the provider takes as its parameter `target`. Where it
    tells no lifetime the token is taken to end with `access_token`, after `lasting` seconds, or before.
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
        **{target: audience},
    )
    if not found.access_token:
        raise OAuthUnavailable(what, "its answer holds no access token", sent=True)
    if found.access_token == access_token:
        raise NotNarrowed(audience, "it gave back the token that was to be narrowed")
    if (named := _audiences(found.access_token)) is not None and named != {audience}:
        raise NotNarrowed(audience, f"the token's aud names {len(named)} audiences, or another")
    return found


def _audiences(token: str) -> set[str] | None:
    """The `aud` of an access token that is a JWT (RFC 9068), unverified: it comes from the provider itself. None where
    the token is opaque, which only its provider can read.
    """
    try:
        claims = jwt.decode(token, options={"verify_signature": False, "verify_aud": False, "verify_exp": False})
    except (jwt.InvalidTokenError, ValueError, RecursionError):
        return None
    found = claims.get("aud", [])
    return {str(name) for name in (found if isinstance(found, list) else [found])}
