"""RS256 keys: LS AAI's, REMS's and the rogue issuer's, made on first use and kept in files of mode 0600."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from jwt.algorithms import RSAAlgorithm

from gdi.kit.canonical import sha256_hex
from gdi.kit.secret_files import write_private


@dataclass(frozen=True)
class RsaKey:
    """An RSA private key and its `kid` (16 hex digits of the public key's SHA-256)."""

    private: rsa.RSAPrivateKey = field(repr=False)
    kid: str

    @classmethod
    def load_or_make(cls, path: Path) -> RsaKey:
        """The key in `path` (PEM, PKCS 8), made there when absent. ValueError where the file holds something else."""
        if not path.exists():
            pem = rsa.generate_private_key(public_exponent=65537, key_size=2048).private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
            write_private(path, pem)
        key = serialization.load_pem_private_key(path.read_bytes(), password=None)
        if not isinstance(key, rsa.RSAPrivateKey):
            raise ValueError(f"{path} must hold an RSA private key in PEM (PKCS 8)")
        public = key.public_key().public_bytes(
            serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        return cls(key, sha256_hex(public)[:16])

    def jwk(self) -> dict[str, Any]:
        public: dict[str, Any] = json.loads(RSAAlgorithm.to_jwk(self.private.public_key()))
        public.pop("key_ops", None)
        return {**public, "kid": self.kid, "use": "sig", "alg": "RS256"}

    def sign(self, claims: dict[str, Any], *, typ: str = "JWT", headers: dict[str, Any] | None = None) -> str:
        """A compact JWS over exactly `claims`; `headers` may override kid and add jku."""
        return jwt.encode(
            claims, self.private, algorithm="RS256", headers={"kid": self.kid, "typ": typ, **(headers or {})}
        )
