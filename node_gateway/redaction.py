"""Secrets cut out of text: whatever a TES, an archive or a traceback says passes here before it is logged, stored or
answered.
"""

from __future__ import annotations

import logging
import re

CAPABILITY_PREFIX = "gdic_"
_SECRETS = re.compile(
    r"#?gdic_[A-Za-z0-9_-]*"  # capabilities, with the # before them
    r"|eyJ[A-Za-z0-9_-]{5,}(?:\.[A-Za-z0-9_-]*){1,4}"  # JSON web tokens
    r"|gdit_[A-Za-z0-9_-]+"  # tickets
    r"|(?i:\b(?:bearer|basic)\s+[A-Za-z0-9+/=._~-]{8,})"  # whatever an Authorization header held
)
_FRAGMENT = re.compile(r"((?:sda|s3|htsget|workspace|https?|file)://[^\s#\"'<>]*)#[^\s\"'<>]*")
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")


def redact(text: str, limit: int = 2000) -> str:
    """`text` without secrets, URL fragments and control characters, at most `limit` characters."""
    bounded = text[: limit * 4]
    return _CONTROL.sub(" ", _SECRETS.sub("[removed]", _FRAGMENT.sub(r"\1", bounded)))[:limit]


def looks_secret(text: str) -> bool:
    """Whether `text` holds something of the form of a token, ticket or capability."""
    return _SECRETS.search(text) is not None


class RedactingFormatter(logging.Formatter):
    """Scrubs the finished line, tracebacks included."""

    def format(self, record: logging.LogRecord) -> str:
        text = super().format(record)
        return "\n".join(redact(line, 4000) for line in text.splitlines()[:200])
