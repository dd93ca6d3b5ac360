"""Proof Key for Code Exchange (RFC 7636), S256 only."""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field

from authlib.oauth2.rfc7636 import create_s256_code_challenge

METHOD = "S256"


@dataclass(frozen=True)
class CodeVerifier:
    """The secret of one sign-in (§4.1): 64 characters of 384 random bits, unless given."""

    value: str = field(default_factory=lambda: secrets.token_urlsafe(48), repr=False)

    @property
    def challenge(self) -> str:
        """What the authorization endpoint learns of it (§4.2)."""
        return str(create_s256_code_challenge(self.value))
