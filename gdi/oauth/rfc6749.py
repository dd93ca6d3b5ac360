"""The OAuth 2.0 framework (RFC 6749): the authorization code grant (§4.1), refreshing (§6), and the token answer
(§5.1), of which the tokens are kept first and the times read after.
"""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from gdi.oauth import rfc7009, rfc7636
from gdi.oauth.connection import ProviderConnection
from gdi.oauth.errors import OAuthDenied, OAuthUnavailable
from gdi.oauth.token_times import LONGEST_ACCESS, LONGEST_REFRESH, seconds

REFRESH_TYPE = "urn:ietf:params:oauth:token-type:refresh_token"  # RFC 8693 §3
TOKEN = re.compile(r"[\x20-\x7e]{1,65536}")  # VSCHAR (appendices A.12 and A.17), bounded
SCOPE = re.compile(r"[\x21\x23-\x5b\x5d-\x7e]+( [\x21\x23-\x5b\x5d-\x7e]+)*")  # appendix A.4


@dataclass(frozen=True, repr=False)
class TokenSet:
    """Tokens as the provider gave them; times in epoch seconds, lifetimes in seconds.

    `fault`: what is wrong with an answer that holds a refresh token all the same. Its access token is left out: it must
    not be used, but the refresh token must not be lost.
    """

    access_token: str
    access_expires_at: float
    access_lifetime: float
    refresh_token: str | None
    refresh_expires_in: float | None
    id_token: str | None = None
    fault: str = ""
    scope: str = ""  # as the answer tells it (§5.1); empty where it tells none: it is what was asked for

    @classmethod
    def of(cls, what: str, fields: Mapping[str, Any], *, access_lifetime: float) -> TokenSet:
        """From a token answer. OAuthUnavailable where it holds no token. `access_lifetime` where it tells none."""
        access, refresh = _token(fields.get("access_token")), _token(fields.get("refresh_token"))
        if fields.get("issued_token_type") == REFRESH_TYPE and not refresh:
            # RFC 8693 §2.2.1: the issued token, whatever its type, comes in `access_token`; there is then no access
            # token yet.
            access, refresh = None, access
        fault = _fault(fields)
        if fault:
            access = None
        if not access and not refresh:
            raise OAuthUnavailable(what, fault or "its answer holds no token", sent=True)
        lifetime = (seconds(fields.get("expires_in"), LONGEST_ACCESS) or access_lifetime) if access else 0.0
        return cls(
            access_token=access or "",
            access_expires_at=time.time() + lifetime,
            access_lifetime=lifetime,
            refresh_token=refresh,
            refresh_expires_in=seconds(fields.get("refresh_expires_in"), LONGEST_REFRESH),
            id_token=_token(fields.get("id_token")),
            fault=fault,
            scope="" if fault else str(fields.get("scope") or ""),
        )

    def __repr__(self) -> str:
        return "TokenSet(…)"


async def authorization_url(
    provider: ProviderConnection,
    *,
    redirect_uri: str,
    scope: str,
    state: str,
    nonce: str,
    verifier: rfc7636.CodeVerifier,
) -> str:
    """Where to send the browser (§4.1.1), with the challenge of `verifier` and OpenID Connect's `nonce`."""
    endpoint = await provider.endpoint("authorization_endpoint")
    client = await provider.authlib("the sign-in")
    url, _ = client.create_authorization_url(
        endpoint,
        state=state,
        redirect_uri=redirect_uri,
        scope=scope,
        nonce=nonce,
        code_challenge=verifier.challenge,
        code_challenge_method=rfc7636.METHOD,
    )
    return str(url)


async def redeem_code(
    provider: ProviderConnection, code: str, verifier: rfc7636.CodeVerifier, redirect_uri: str
) -> TokenSet:
    """§4.1.3, with the verifier of RFC 7636 §4.5."""
    return await tokens(
        provider,
        "the authorization code",
        "authorization_code",
        code=code,
        redirect_uri=redirect_uri,
        code_verifier=verifier.value,
    )


async def refresh(provider: ProviderConnection, refresh_token: str) -> TokenSet:
    """§6. A faulty answer with a new refresh token is given back, with its `fault`: the caller stores it first."""
    return await _answer(provider, "the refresh", "refresh_token", refresh_token=refresh_token)


async def tokens(
    provider: ProviderConnection, what: str, grant_type: str, lasting: float = LONGEST_ACCESS, **form: str
) -> TokenSet:
    """The first tokens of a grant, taken to live `lasting` seconds at most where the provider tells no lifetime.
    OAuthUnavailable for a faulty answer; its refresh token is revoked, as nobody will ever use it.
    """
    found = await _answer(provider, what, grant_type, lasting, **form)
    if found.fault:
        if found.refresh_token:
            with contextlib.suppress(OAuthDenied, OAuthUnavailable):
                await rfc7009.revoke(provider, found.refresh_token)
        raise OAuthUnavailable(what, found.fault, sent=True)
    return found


async def _answer(
    provider: ProviderConnection, what: str, grant_type: str, lasting: float = LONGEST_ACCESS, **form: str
) -> TokenSet:
    client = await provider.authlib(what)
    fields = await client.fetch_token(await provider.endpoint("token_endpoint"), grant_type=grant_type, **form)
    return TokenSet.of(what, fields, access_lifetime=min(provider.access_lifetime, lasting))


def _token(value: object) -> str | None:
    return value if isinstance(value, str) and TOKEN.fullmatch(value) else None


def _fault(fields: Mapping[str, Any]) -> str:
    scope = fields.get("scope")
    if scope is None or scope == "" or (isinstance(scope, str) and SCOPE.fullmatch(scope)):
        return ""
    return "its scope is not a string of names with single spaces (RFC 6749 §3.3)"
