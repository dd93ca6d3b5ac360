"""URLs that secrets may be sent to."""

from __future__ import annotations

from urllib.parse import urlsplit


def secure_url(value: str) -> str:
    """An https URL, or http on loopback; without a slash at its end."""
    parts = urlsplit(value)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("must be an http(s) URL")
    if (
        parts.scheme == "http"
        and parts.hostname not in ("127.0.0.1", "localhost", "::1")
        and not parts.hostname.endswith(".svc")
    ):
        raise ValueError("must be https, except on loopback or for a service of the same cluster (….svc)")
    if parts.username or parts.password or parts.fragment:
        raise ValueError("must not carry a user, a password or a fragment")
    return value.rstrip("/")
