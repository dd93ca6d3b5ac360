"""Who calls: a user by access token (introspected, RFC 7662), or a service account of this node by HTTP Basic (RFC
7617).
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import time
from collections import OrderedDict
from dataclasses import dataclass, field

import httpx

from gdi.kit.problem import ProblemError
from gdi.kit.secret_files import read_secret_text
from gdi.local_federation.tes.config import Introspection, TesConfig

MAX_TOKEN = 16 * 1024
MAX_CACHED = 2000


@dataclass(frozen=True)
class TesCaller:
    """`token` is the user's own access token (for inputs that name no credential); a service sees all tasks."""

    name: str
    service: bool
    token: str | None = field(default=None, repr=False)

    @property
    def scope(self) -> str | None:
        """The owner that this caller's view is narrowed to; None: all."""
        return None if self.service else self.name


class TesAuthenticator:
    def __init__(self, config: TesConfig, client: httpx.AsyncClient) -> None:
        self._passwords = {
            a.user: hashlib.sha256(read_secret_text(a.password_file).encode()).digest() for a in config.service_accounts
        }
        self._introspection = config.introspection
        self._client_secret = read_secret_text(config.introspection.client_secret_file) if config.introspection else ""
        self._client = client
        self._cache: OrderedDict[bytes, tuple[float, str]] = OrderedDict()

    async def caller(self, authorization: str | None) -> TesCaller:
        """ProblemError 401 for anything but a known account or an active token for this TES; 503 where the provider
        does not answer.
        """
        scheme, _, value = (authorization or "").partition(" ")
        value = value.strip()
        if scheme.lower() == "basic" and self._passwords:
            return self._basic(value)
        if scheme.lower() == "bearer" and self._introspection and 0 < len(value) <= MAX_TOKEN:
            return TesCaller(await self._bearer(value, self._introspection), service=False, token=value)
        raise _unauthenticated("No credential that this TES accepts was sent.")

    def _basic(self, value: str) -> TesCaller:
        try:
            user, _, password = base64.b64decode(value, validate=True).decode().partition(":")
        except (binascii.Error, UnicodeDecodeError):
            raise _unauthenticated("The Authorization header is not HTTP Basic.") from None
        expected = self._passwords.get(user, b"\0" * 32)  # the comparison takes the same time for an unknown user
        if not hmac.compare_digest(hashlib.sha256(password.encode()).digest(), expected) or user not in self._passwords:
            raise _unauthenticated("The user or the password is wrong.")
        return TesCaller(user, service=True)

    async def _bearer(self, token: str, settings: Introspection) -> str:
        key = hashlib.sha256(token.encode()).digest()
        known = self._cache.get(key)
        if known is not None and known[0] > time.monotonic():
            return known[1]
        try:
            answer = await self._client.post(
                settings.url,
                data={"token": token, "token_type_hint": "access_token"},
                auth=(settings.client_id, self._client_secret),
                timeout=10,
            )
            answer.raise_for_status()
            claims = answer.json()
        except (httpx.HTTPError, ValueError) as error:
            detail = f"The token could not be introspected at {settings.url}: {type(error).__name__}."
            raise ProblemError(503, "introspection-unavailable", detail, action="Try again shortly.") from None
        if not isinstance(claims, dict) or claims.get("active") is not True:
            raise _unauthenticated("The access token is not active.")
        audience = claims.get("aud")
        audiences = audience if isinstance(audience, list) else [audience]
        if settings.audience not in audiences:
            raise _unauthenticated(f"The access token is not for this TES (audience {settings.audience}).")
        subject = claims.get("sub")
        if not isinstance(subject, str) or not subject:
            raise _unauthenticated("The access token names no subject.")
        expires = claims.get("exp")
        life = (
            settings.cache_seconds
            if not isinstance(expires, int | float)
            else min(settings.cache_seconds, expires - time.time())
        )
        if life > 0:
            self._cache[key] = (time.monotonic() + life, subject)
            while len(self._cache) > MAX_CACHED:
                self._cache.popitem(last=False)
        return subject


def _unauthenticated(detail: str) -> ProblemError:
    return ProblemError(
        401, "unauthenticated", detail, action="Send an access token for this TES, or the account's password."
    )
