"""The TES's registered Crypt4GH public key: archive files are re-encrypted to it and to no other."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
from dataclasses import dataclass
from pathlib import Path

from gdi.kit.settings import SettingsError

_PEM = re.compile(
    rb"\s*-----BEGIN CRYPT4GH PUBLIC KEY-----\s+([A-Za-z0-9+/=]{44})\s+-----END CRYPT4GH PUBLIC KEY-----\s*"
)


@dataclass(frozen=True)
class PublicKey:
    raw: bytes  # 32 bytes, X25519
    pem: bytes

    @classmethod
    def from_pem(cls, pem: bytes) -> PublicKey:
        """ValueError where it is not a Crypt4GH public key."""
        found = _PEM.fullmatch(pem)
        raw = base64.b64decode(found[1], validate=True) if found else b""
        if len(raw) != 32:
            raise ValueError("not a Crypt4GH public key in PEM")
        return cls(raw, pem)

    @classmethod
    def load(cls, path: Path) -> PublicKey:
        try:
            return cls.from_pem(path.read_bytes())
        except (OSError, ValueError) as error:
            raise SettingsError(f"TES_PUBLIC_KEY_FILE: {path}: {error}") from None

    @property
    def fingerprint(self) -> str:
        """SHA-256 (hex) of the raw key."""
        return hashlib.sha256(self.raw).hexdigest()

    @property
    def header(self) -> str:
        """The `Client-Public-Key` header's value: base64 of the PEM."""
        return base64.b64encode(self.pem).decode()

    def is_header(self, value: str) -> bool:
        """Whether a `Client-Public-Key` header holds this key."""
        try:
            other = PublicKey.from_pem(base64.b64decode(value, validate=True)).raw
        except (ValueError, binascii.Error):
            return False
        return hmac.compare_digest(self.raw, other)
