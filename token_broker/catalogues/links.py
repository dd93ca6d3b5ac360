"""Links that documents of strangers have: which a page may show, and at which server they lead."""

from __future__ import annotations

from urllib.parse import urlsplit

LONGEST = 500  # letters


def web_link(text: str) -> str | None:
    """A link that a page may show: http(s), with a host, without a user; else None."""
    if len(text) > LONGEST or not text.isascii() or any(c <= " " or c in "\"'<>\\`{}|^\x7f" for c in text):
        return None
    try:
        parts = urlsplit(text)
        allowed = parts.scheme in ("http", "https") and bool(parts.hostname) and "@" not in parts.netloc
    except ValueError:
        return None
    return text if allowed else None


def origin(url: str) -> tuple[str, str | None, int | None]:
    """Scheme, host and port; of what is no URL nothing."""
    try:
        parts = urlsplit(url)
        return parts.scheme, parts.hostname, parts.port
    except ValueError:
        return "", None, None
