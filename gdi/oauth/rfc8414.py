"""The provider's metadata: OpenID Connect Discovery 1.0 §4, whose document RFC 8414 took over."""

from __future__ import annotations

import time
from typing import Any
from urllib.parse import urlsplit

from gdi.oauth.errors import OAuthDenied, OAuthNotOffered, OAuthUnavailable
from gdi.oauth.session import JudgedSession

FRESH = 3600  # seconds


class ProviderMetadata:
    """The document at `issuer`, kept for an hour, and longer while the provider is away."""

    def __init__(self, session: JudgedSession, issuer: str) -> None:
        self._session, self._issuer = session, issuer
        self._found: dict[str, Any] = {}
        self._at = 0.0

    async def url(self, name: str) -> str:
        """An endpoint. OAuthUnavailable where there is none, or none that tokens may be sent to: `https`, or `http`
        where the issuer itself is (RFC 8414 §2, RFC 6749 §3.1); nothing was asked of it then (`sent` False).
        """
        url = (await self._current()).get(name)
        if not isinstance(url, str):
            raise OAuthNotOffered(name)
        scheme = urlsplit(url).scheme
        if scheme != "https" and not (scheme == "http" and urlsplit(self._issuer).scheme == "http"):
            raise OAuthUnavailable("discovery", f"its {name} is no https address", sent=False)
        return url

    async def promises_iss(self) -> bool:
        """Whether every authorization response carries `iss` (RFC 9207 §3). OAuthUnavailable."""
        return (await self._current()).get("authorization_response_iss_parameter_supported") is True

    async def issuer(self) -> str:
        """The issuer as the provider writes it, and as its tokens name it: perhaps with a slash at its end, where our
        settings have none. OAuthUnavailable.
        """
        return str((await self._current())["issuer"])

    async def _current(self) -> dict[str, Any]:
        if not self._found or time.monotonic() - self._at > FRESH:
            try:
                self._found, self._at = await self._fetched(), time.monotonic()
            except (OAuthUnavailable, OAuthDenied) as error:
                if not self._found:
                    raise OAuthUnavailable("discovery", str(error), sent=False) from None
        return self._found

    async def _fetched(self) -> dict[str, Any]:
        found = (await self._session.get(self._issuer + "/.well-known/openid-configuration")).fields
        if str(found.get("issuer", "")).rstrip("/") != self._issuer:
            raise OAuthUnavailable("discovery", "its metadata names another issuer", sent=False)
        return found
