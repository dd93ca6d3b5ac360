"""Signing and verifying JSON web tokens with ES256 or RS256, and JWKS that follow key rotation. RFC 7515, 7517,
7519.
"""

from __future__ import annotations

import asyncio
import json
import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import httpx
import jwt
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from jwt.algorithms import ECAlgorithm

from gdi.kit import bounded_read

ALGORITHMS = ("ES256", "RS256")  # GA4GH AAI 1.2 allows only these
MAX_JWKS_BYTES = 2 * 1024 * 1024  # certificates (x5c) make sets large
MAX_KEYS = 1000
MAX_TRIED = 100  # keys for one token, where it names none
KINDS = {"ES256": ("EC", "P-256"), "RS256": ("RSA", None)}  # key type and curve that an algorithm takes (RFC 7518)
BROKEN = (jwt.PyJWTError, ValueError, TypeError, KeyError, OverflowError, RecursionError)  # of a token that is none


class TokenError(Exception):
    """A token that is not acceptable; the message never contains the token."""


@dataclass(frozen=True)
class SigningKey:
    """An ES256 private key and its `kid` (the JWK's RFC 7638-like SHA-256 thumbprint, 16 hex digits)."""

    private: ec.EllipticCurvePrivateKey
    kid: str

    @classmethod
    def generate(cls) -> SigningKey:
        return cls.of(ec.generate_private_key(ec.SECP256R1()))

    @classmethod
    def from_pem(cls, pem: bytes) -> SigningKey:
        key = serialization.load_pem_private_key(pem, password=None)
        if not isinstance(key, ec.EllipticCurvePrivateKey):
            raise ValueError("the signing key must be an EC P-256 private key in PEM (PKCS 8)")
        return cls.of(key)

    @classmethod
    def of(cls, key: ec.EllipticCurvePrivateKey) -> SigningKey:
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
        if typ is not None and not same_type(header.get("typ"), typ):
            raise TokenError(f"token type is not {typ}")
        require = ["exp", "iat", "iss"] + ([] if audience is None else ["aud"])
        options: Any = {"require": require, "verify_aud": audience is not None}
        return decoded(token, header, keys, issuer=issuer, audience=audience, leeway=leeway, options=options)
    except BROKEN as error:
        raise TokenError(f"{type(error).__name__}: {_safe(error)}") from None


def issuer_of(token: str) -> str | None:
    """What the token says who made it, unproven: to choose which check is made."""
    try:
        issuer = jwt.decode(token, options={"verify_signature": False}).get("iss")
    except BROKEN:
        return None
    return issuer if isinstance(issuer, str) else None


def key_id(token: str) -> str | None:
    """Which key the token says that it was signed with, unproven. TokenError where it is none."""
    try:
        kid: str | None = jwt.get_unverified_header(token).get("kid")
    except jwt.PyJWTError:
        raise TokenError("not a JSON web token") from None
    return kid


def same_type(typ: object, wanted: str) -> bool:
    """Media types are compared without case, and `application/` may be left out (RFC 7515 §4.1.9)."""
    return isinstance(typ, str) and typ.lower().removeprefix("application/") == wanted.lower()


def fitting(keys: list[dict[str, Any]], header: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The keys of a set that may have signed a token with this header: its `kid` where it names one, which a set may
    have twice (RFC 7517 §4.5), a type and curve of its algorithm, not kept for other work (`use`, `key_ops`, `alg`).
    """
    kind, curve = KINDS[header["alg"]]
    return [
        k
        for k in keys
        if ("kid" not in header or k.get("kid") == header["kid"])
        and k.get("kty") == kind
        and (curve is None or k.get("crv") == curve)
        and k.get("use", "sig") == "sig"
        and k.get("alg", header["alg"]) == header["alg"]
        and ("key_ops" not in k or (isinstance(k["key_ops"], list) and "verify" in k["key_ops"]))
    ]


def decoded(
    token: str,
    header: Mapping[str, Any],
    keys: list[dict[str, Any]],
    **more: Any,  # of jwt.decode
) -> dict[str, Any]:
    """The claims, verified with whichever of the fitting keys signed the token. InvalidSignatureError where none did,
    TokenError where none fits, other errors of jwt.decode.
    """
    candidates = fitting(keys, header)
    if not candidates:
        raise TokenError("signed by an unknown key")
    last: Exception = jwt.InvalidSignatureError("Signature verification failed")
    for one in candidates[:MAX_TRIED]:
        try:
            key = jwt.PyJWK(one, algorithm=header["alg"])
            claims: dict[str, Any] = jwt.decode(token, key, algorithms=[header["alg"]], **more)
            return claims
        except (jwt.InvalidSignatureError, jwt.InvalidKeyError, jwt.PyJWKError) as error:
            last = error  # another key, or none at all: the next may be it
    raise last


def _safe(error: Exception) -> str:
    """PyJWT's messages name claims, not tokens; anything long is cut away all the same."""
    return str(error)[:120]


class KeysUnavailable(TokenError):
    """Whether the token is good cannot be told now, as its issuer's keys cannot be had: whoever sent it may send it
    again.
    """


class KeySetError(ValueError):
    """What is wrong with a key set."""


def why_away(error: Exception) -> str:
    """In words that tell nothing of what was fetched."""
    if isinstance(error, bounded_read.TooLargeError):
        return f"it is larger than {MAX_JWKS_BYTES} bytes"
    return str(error) if isinstance(error, KeySetError) else type(error).__name__


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
                        RecursionError,
                    ) as error:  # keys that are known stay good meanwhile
                        self._away = why_away(error)
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
        found = [k for k in json.loads(body)["keys"] if isinstance(k, dict)]
        if not 0 < len(found) <= MAX_KEYS:
            raise KeySetError(f"it has {len(found)} keys, and one to {MAX_KEYS} are taken")
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
        return verify(token, await self.keys(kid=key_id(token)), issuer=issuer, audience=audience, typ=typ)
