"""The end of a grant's tokens at the provider: RFC 7009, and how it is known that it worked."""

from __future__ import annotations

import time
from datetime import UTC, datetime

from gdi.oauth.client import OAuthClient
from gdi.oauth.errors import OAuthDenied, OAuthNotOffered, OAuthUnavailable
from token_broker.tokens.stored_tokens import StoredTokens

MOST = 30 * 86400  # seconds after its end for which a token that the provider still calls active is kept


class NotRevoked(Exception):
    """The provider did not revoke the token; the message is for its user."""

    def __init__(self, error: Exception, stored: StoredTokens) -> None:
        end = datetime.fromtimestamp(min(stored.ends_at, 9e9), UTC)
        super().__init__(f"{error} It is tried again; by itself the token ends on {end:%Y-%m-%d at %H:%M} UTC.")


async def end_upstream(oidc: OAuthClient, stored: StoredTokens) -> str:
    """Revokes the refresh token; empty, or in a sentence why it needed none. NotRevoked: not yet, as far as is known,
    and the record has to stay.

    RFC 7009 §2.2 says nothing about the body of a good answer, which may thus be anybody's page: introspection is
    asked, where there is one. A provider that refuses, or has no such endpoint, is asked until the token's own end.
    """
    try:
        await oidc.revoke(stored.refresh_token)
    except (OAuthDenied, OAuthUnavailable) as error:
        if not await _over(oidc, stored):
            raise NotRevoked(error, stored) from None
        return f"Its token was not revoked, and has ended by itself. {error}"
    try:
        if await _active(oidc, stored):
            raise OAuthUnavailable("the revocation", "introspection says that the token is still active", sent=True)
    except OAuthUnavailable as error:
        raise NotRevoked(error, stored) from None
    return ""


async def _active(oidc: OAuthClient, stored: StoredTokens) -> bool:
    """What introspection says; False where the provider offers none, or none of refresh tokens. OAuthUnavailable."""
    try:
        return bool((await oidc.introspect(stored.refresh_token, "refresh_token"))["active"])
    except (OAuthDenied, OAuthNotOffered):
        return False


async def _over(oidc: OAuthClient, stored: StoredTokens) -> bool:
    """The token is past its end, and the provider does not say otherwise."""
    if time.time() < stored.ends_at:
        return False
    try:
        return not await _active(oidc, stored) or time.time() > stored.ends_at + MOST
    except OAuthUnavailable:
        return time.time() > stored.ends_at + MOST
