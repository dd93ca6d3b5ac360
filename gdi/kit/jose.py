"""Signing and verifying JSON web tokens with ES256 or RS256, and JWKS that follow key rotation. RFC 7515, 7517,
7519.
"""

from __future__ import annotations

import asyncio
import json
import secrets
import time
from dataclasses import dataclass, field
from typing import Any

import httpx
import jwt
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from jwt.algorithms import ECAlgorithm

from gdi.kit import bounded_read

ALGORITHMS = ("ES256", "RS256")  # GA4GH AAI 1.2 allows only these
MAX_JWKS_BYTES = 256 * 1024


class TokenError(Exception):
    """A token that is not acceptable; the message never contains the token."""


@dataclass(frozen=True)
class SigningKey:
    """An ES256 private key and its `kid` (the JWK's RFC 7638-like SHA-256 thumbprint, 16 hex digits)."""

    private: ec.EllipticCurvePrivateKey
    kid: str

    @classmethod
    def generate(cls) -> SigningKey:
        return cls._of(ec.generate_private_key(ec.SECP256R1()))

    @classmethod
    def from_pem(cls, pem: bytes) -> SigningKey:
        key = serialization.load_pem_private_key(pem, password=None)
        if not isinstance(key, ec.EllipticCurvePrivateKey):
            raise ValueError("the signing key must be an EC P-256 private key in PEM (PKCS 8)")
        return cls._of(key)

    @classmethod
    def _of(cls, key: ec.EllipticCurvePrivateKey) -> SigningKey:
        public = key.public_key().public_bytes(
            serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        digest = hashes.Hash(hashes.SHA256())
        digest.update(public)
        return cls(key, digest.finalize().hex()[:16])

    def pem(self) -> bytes:
        return self.private.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )

    def jwk(self) -> dict[str, Any]:
        """The public key as a JWK with kid, use and alg."""
        public: dict[str, Any] = json.loads(ECAlgorithm.to_jwk(self.private.public_key()))
        return {**public, "kid": self.kid, "use": "sig", "alg": "ES256"}

    def sign(
        self, claims: dict[str, Any], *, lifetime: float, typ: str = "JWT", headers: dict[str, Any] | None = None
    ) -> str:
        """A compact JWS; adds iat, exp (`lifetime` in seconds) and jti where absent."""
        now = int(time.time())
        body = {"iat": now, "exp": now + max(1, int(lifetime)), "jti": secrets.token_hex(12), **claims}
        return jwt.encode(
            body, self.private, algorithm="ES256", headers={"kid": self.kid, "typ": typ, **(headers or {})}
        )


def verify(
    token: str,
    keys: list[dict[str, Any]],
    *,
    issuer: str,
    audience: str | None,
    typ: str | None = None,
    leeway: float = 5,
) -> dict[str, Any]:
    """The claims of a token signed by one of `keys` (JWKs), for `issuer` and `audience`, not expired. TokenError
    otherwise.

    `audience` None: the token need not be for anybody (visas have no audience).
    """
    try:
        header = jwt.get_unverified_header(token)
        if header.get("alg") not in ALGORITHMS:
            raise TokenError("signature algorithm is not ES256 or RS256")
        if typ is not None and header.get("typ") != typ:
            raise TokenError(f"token type is not {typ}")
        candidates = [k for k in keys if "kid" not in header or k.get("kid") == header["kid"]]
        if not candidates:
            raise TokenError("signed by an unknown key")
        key = jwt.PyJWK(candidates[0], algorithm=header["alg"])
        require = ["exp", "iat", "iss"] + ([] if audience is None else ["aud"])
        options: Any = {"require": require, "verify_aud": audience is not None}
        claims: dict[str, Any] = jwt.decode(
            token, key, algorithms=[header["alg"]], issuer=issuer, audience=audience, leeway=leeway, options=options
        )
    except (jwt.PyJWTError, ValueError, TypeError, KeyError) as error:
        raise TokenError(f"{type(error).__name__}: {_safe(error)}") from None
    return claims


def _safe(error: Exception) -> str:
    """PyJWT's messages name claims, not tokens; anything long is cut away all the same."""
    return str(error)[:120]


class KeysUnavailable(TokenError):
    """Whether the token is good cannot be told now, as its issuer's keys cannot be had: whoever sent it may send it
    again.
    """


@dataclass
class RemoteKeys:
    """A JWKS at `url`, kept `fresh_for` seconds. An unknown `kid` fetches it anew (key rotation); one that even that
    did not bring ends this for `refetch_after` seconds (a flood)."""

    url: str
    client: httpx.AsyncClient
    fresh_for: float = 300
    refetch_after: float = 5
    _keys: list[dict[str, Any]] = field(default_factory=list)
    _at: float = float("-inf")
    _missed_at: float = float("-inf")
    _away: str = ""  # why the last fetch failed
    _lock: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def keys(self, *, kid: str | None = None) -> list[dict[str, Any]]:
        """The current keys. KeysUnavailable where there are none, or not the one asked for, and the server does not
        answer rightly.
        """
        since = time.monotonic()
        if not self._settled(kid, since):
            async with self._lock:
                if not self._settled(kid, since):
                    try:
                        self._keys, self._away = await self._fetched(), ""
                    except (
                        httpx.HTTPError,
                        ValueError,
                        KeyError,
                        TypeError,
                    ) as error:  # keys that are known stay good meanwhile
                        self._away = type(error).__name__
                    self._at = time.monotonic()
                    if not self._has(kid):
                        self._missed_at = self._at
        if self._away and not self._has(kid):
            raise KeysUnavailable(f"no JWKS at {self.url}: {self._away}")
        return self._keys

    async def _fetched(self) -> list[dict[str, Any]]:
        async with self.client.stream("GET", self.url, timeout=10) as answer:
            answer.raise_for_status()
            body = await bounded_read.aread(answer, MAX_JWKS_BYTES)
        found = [k for k in json.loads(body)["keys"] if isinstance(k, dict)][:50]
        if not found:
            raise ValueError("empty")
        return found

    def _settled(self, kid: str | None, since: float) -> bool:
        """Whether a fetch would be too early, for who came at `asked`."""
        now = time.monotonic()
        if not self._keys:
            return self._at > since  # one fetch for all who waited for it
        if now - self._at > self.fresh_for:
            return False
        return self._has(kid) or now - self._missed_at < self.refetch_after

    def _has(self, kid: str | None) -> bool:
        return bool(self._keys) and (kid is None or any(k.get("kid") == kid for k in self._keys))

    async def verify(self, token: str, *, issuer: str, audience: str | None, typ: str | None = None) -> dict[str, Any]:
        try:
            kid = jwt.get_unverified_header(token).get("kid")
        except jwt.PyJWTError:
            raise TokenError("not a JSON web token") from None
        return verify(token, await self.keys(kid=kid), issuer=issuer, audience=audience, typ=typ)
