"""Secrets cut out of text: whatever a TES, an archive or a traceback says passes here before it is logged, stored or
answered.

Strangers write the text, so every pattern is linear: what a match has looked at it consumes, and possessive quantifiers
give nothing back (decision 765).
"""

from __future__ import annotations

import logging
import logging.handlers
import queue
import re

CAPABILITY_PREFIX = "gdic_"
MAX_QUEUED = 10_000  # log records that wait for the thread that writes them
_WEB_TOKEN = r"eyJ[A-Za-z0-9_-]{5,}+(?:\.[A-Za-z0-9_-]*+){0,4}+"  # noqa: S105  # JSON web tokens; without a dot a word
_SECRETS = re.compile(
    r"#?gdic_[A-Za-z0-9_-]*+"  # capabilities, with the # before them
    rf"|(?P<token>{_WEB_TOKEN})"
    r"|gdit_[A-Za-z0-9_-]++"  # tickets
    r"|(?i:\b(?:bearer|basic)\s++[A-Za-z0-9+/=._~-]{8,}+)"  # whatever an Authorization header held
)
_FRAGMENT = re.compile(r"((?:sda|s3|drs|htsget|workspace|https?|file)://[^\s#\"'<>]*+)(?:#[^\s\"'<>]*+)?")
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")


def redact(text: str, limit: int = 2000) -> str:
    """`text` without secrets, URL fragments and control characters, at most `limit` characters."""
    bounded = text[: limit * 4]
    cut = len(bounded) < len(text)  # then a token at the end may have lost its dots

    def without(match: re.Match[str]) -> str:
        harmless = _is_word(match) and not (cut and match.end() == len(match.string))
        return match[0] if harmless else "[removed]"

    return _CONTROL.sub(" ", _SECRETS.sub(without, _FRAGMENT.sub(r"\1", bounded)))[:limit]


def looks_secret(text: str) -> bool:
    """Whether `text` holds something of the form of a token, ticket or capability."""
    return any(not _is_word(match) for match in _SECRETS.finditer(text))


def _is_word(match: re.Match[str]) -> bool:
    token = match["token"]
    return token is not None and "." not in token


class RedactingFormatter(logging.Formatter):
    """Scrubs the finished line, tracebacks included."""

    def format(self, record: logging.LogRecord) -> str:
        text = super().format(record)
        return "\n".join(redact(line, 4000) for line in text.splitlines()[:200])


class _Writer(logging.handlers.QueueListener):
    queue: queue.Queue[logging.LogRecord | None]

    def enqueue_sentinel(self) -> None:
        self.queue.put(None)  # waits for room where the queue is full


class QueuedLog(logging.handlers.QueueHandler):
    """Hands records to a thread of its own, which redacts and writes them: the event loop does neither. Where more than
    MAX_QUEUED wait, further ones are left out and counted.
    """

    def __init__(self, target: logging.Handler) -> None:
        records: queue.Queue[logging.LogRecord | None] = queue.Queue(MAX_QUEUED)
        super().__init__(records)
        self.left_out = 0
        self._writer = _Writer(records, target)
        self._running = True
        self._writer.start()

    def enqueue(self, record: logging.LogRecord) -> None:
        try:
            self.queue.put_nowait(record)
        except queue.Full:
            self.left_out += 1
            return
        if self.left_out:
            count, self.left_out = self.left_out, 0
            logging.getLogger(__name__).warning("%d lines of the log were left out: too many at once", count)

    def close(self) -> None:
        """Writes what still waits."""
        if self._running:
            self._running = False
            self._writer.stop()
        super().close()
