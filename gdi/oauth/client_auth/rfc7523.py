"""`private_key_jwt` (RFC 7523 §2.2 and §3, OpenID Connect Core 1.0 §9): a short-lived assertion signed with the
client's own key; the provider holds only the public half.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

from authlib.oauth2.rfc7523 import PrivateKeyJWT as AuthlibPrivateKeyJWT
from joserfc.errors import JoseError
from joserfc.jwk import ECKey, RSAKey

LIFETIME = 60  # seconds
MIN_RSA_BITS = 2048


class PrivateKeyJwt:
    """`read` gives the private key (PEM, or a JWK as JSON); it is called for each request.

    RSA signs RS256, EC on P-256 signs ES256. The assertion's audience is the token endpoint, at each endpoint.
    """

    method = "private_key_jwt"

    def __init__(self, read: Callable[[], bytes]) -> None:
        self._read = read

    def prepare(self, token_endpoint: str) -> tuple[Any, Any]:
        key, algorithm, kid = load(self._read())
        # Authlib puts a `jti` into the claims that it is given, and the same one again with the next assertion: so
        # both are made anew for each call. It would also let the assertion live for an hour.
        claims = {"exp": int(time.time()) + LIFETIME}
        return key, AuthlibPrivateKeyJWT(token_endpoint, claims=claims, headers={"kid": kid}, alg=algorithm)


def load(text: bytes) -> tuple[RSAKey | ECKey, str, str]:
    """(key, JWS algorithm, kid). The kid is the JWK's own, or its RFC 7638 thumbprint. ValueError otherwise; its
    message holds nothing of the key.
    """
    try:
        given = json.loads(text) if text.lstrip().startswith(b"{") else text
        kty = given.get("kty") if isinstance(given, dict) else None
        key = _import(RSAKey, given) if kty in (None, "RSA") else None
        key = key or (_import(ECKey, given) if kty in (None, "EC") else None)
        if key is not None and key.is_private:
            public: dict[str, Any] = key.as_dict(private=False)
            kid = str(public.get("kid") or key.thumbprint())
            private = key.private_key
            if isinstance(key, RSAKey) and private is not None and private.key_size >= MIN_RSA_BITS:
                return key, "RS256", kid
            if isinstance(key, ECKey) and public.get("crv") == "P-256":
                return key, "ES256", kid
    except (ValueError, TypeError, KeyError, JoseError):
        pass
    raise ValueError(
        f"the client's key must be an RSA key of {MIN_RSA_BITS} bits or more, or an EC key on P-256: private, without a"
        " password, in PEM or as a JWK"
    ) from None


def public_jwks(text: bytes) -> dict[str, Any]:
    """The JWK set to register at the provider (RFC 7591 `jwks`) for a private key as in `load`."""
    key, algorithm, kid = load(text)
    public: dict[str, Any] = key.as_dict(private=False)
    return {"keys": [{**public, "kid": kid, "use": "sig", "alg": algorithm}]}


def _import(kind: type[RSAKey] | type[ECKey], given: Any) -> RSAKey | ECKey | None:
    try:
        return kind.import_key(given)
    except (ValueError, TypeError, KeyError, JoseError):
        return None
