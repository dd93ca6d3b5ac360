"""Who the calling client is, by whichever method it was registered for: `private_key_jwt` (RFC 7523 §3) here, the
others in `oauth.authenticate`.
"""

from __future__ import annotations

import time
from collections.abc import Mapping

import jwt
from fastapi import Request

from gdi.kit import jose
from gdi.local_federation.aai import oauth
from gdi.local_federation.aai.config import Client
from gdi.local_federation.aai.oauth import OAuthError, invalid_client
from gdi.local_federation.aai.tokens import Issuer

ASSERTION_TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
LONGEST = 300  # seconds that an assertion may live


def authenticate(issuer: Issuer, request: Request, params: Mapping[str, str]) -> Client:
    """The client, or OAuthError `invalid_client`."""
    if "client_assertion" not in params and "client_assertion_type" not in params:
        return oauth.authenticate(issuer.config, request, params)
    if "authorization" in request.headers or "client_secret" in params:
        raise OAuthError("invalid_request", "Authenticate in one way only.")
    if params.get("client_assertion_type") != ASSERTION_TYPE:
        raise invalid_client(f"client_assertion_type must be {ASSERTION_TYPE}.")
    assertion = params.get("client_assertion", "")
    client = issuer.config.client(params.get("client_id", "") or _issuer(assertion))
    if client is None or not client.jwks:
        raise invalid_client("Unknown client, or one that registered no key.")
    try:
        claims = jose.verify(
            assertion, client.jwks, issuer=client.id, audience=f"{issuer.url}/token", leeway=oauth.CLOCK_SKEW
        )
    except jose.TokenError as error:
        raise invalid_client(f"The client assertion is not acceptable: {error}.") from None
    jti = claims.get("jti")
    if claims.get("sub") != client.id or not isinstance(jti, str) or claims["exp"] > time.time() + LONGEST:
        raise invalid_client("The client assertion has another subject, no jti, or lives too long.")
    used = f"{client.id} {jti}"
    if issuer.store.get_pending("assertion", used) is not None:
        raise invalid_client("The client assertion was used before.")
    issuer.store.put_pending("assertion", used, {}, LONGEST + oauth.CLOCK_SKEW)
    issuer.store.count("private_key_jwt", client.id)
    return client


def _issuer(assertion: str) -> str:
    """Who the assertion says it is of; only chooses the keys that it is verified with."""
    try:
        return str(jwt.decode(assertion, options={"verify_signature": False}).get("iss", ""))
    except (jwt.PyJWTError, ValueError, RecursionError):
        return ""
