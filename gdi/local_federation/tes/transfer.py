"""What fetching and storing have in common: when to stop, how much is too much, and when it is worth trying again."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import IO, TypeVar

from gdi.kit.retry import Failure, RetryPolicy, call_again

T = TypeVar("T")
CHUNK = 1024 * 1024
BACKOFF = RetryPolicy(first=0.25, longest=8, jitter=(0.5, 1.5))


class TransferError(Exception):
    """A transfer that failed for good: the message names the URL without its fragment, what happened, and goes to the
    task's system log.
    """


class TryAgainError(TransferError):
    """A transfer that failed in a way that may pass; `attempts` bounds how often that way of failing is borne, None
    only by time.
    """

    def __init__(self, message: str, attempts: int | None = None) -> None:
        super().__init__(message)
        self.attempts = attempts


class StoppedError(Exception):
    """The task was cancelled meanwhile."""


@dataclass
class Budget:
    """Of one task's transfers in one direction: bytes and files left, and the event that stops them. Checked at every
    chunk.
    """

    bytes_left: int
    files_left: int
    stop: threading.Event = field(default_factory=threading.Event)

    def take(self, count: int) -> None:
        if self.stop.is_set():
            raise StoppedError
        self.bytes_left -= count
        if self.bytes_left < 0:
            raise TransferError(
                "the task moves more data than this node allows (limits.disk_bytes, or the task's disk_gb)"
            )

    def take_file(self) -> None:
        self.take(0)
        self.files_left -= 1
        if self.files_left < 0:
            raise TransferError("the task moves more files than this node allows (limits.transfer_files)")


def with_retry(call: Callable[[], T], budget: Budget, seconds: float) -> T:
    """Calls again after TryAgainError, with growing pauses and jitter, until `seconds` have passed; then the last error
    stands.
    """
    borne, tried = 0, 0

    def once() -> T:
        nonlocal tried
        tried += 1
        before = budget.bytes_left
        try:
            return call()
        except TryAgainError:
            budget.bytes_left = before  # what came of a failed attempt was thrown away
            raise

    def again(failure: Failure) -> bool:
        nonlocal borne
        error = failure.error
        if not isinstance(error, TryAgainError):
            return False
        borne += error.attempts is not None
        return error.attempts is None or borne < error.attempts

    def pause(length: float) -> None:
        if budget.stop.wait(length):
            raise StoppedError from None

    try:
        return call_again(once, replace(BACKOFF, total=seconds), again=again, sleep=pause)
    except TryAgainError as error:
        raise TransferError(f"{error} (tried {tried} times)") from None


def copy(source: IO[bytes], target: IO[bytes], budget: Budget) -> int:
    total = 0
    while chunk := source.read(CHUNK):
        budget.take(len(chunk))
        target.write(chunk)
        total += len(chunk)
    return total


def printable(text: str, limit: int = 200) -> str:
    """A stranger's text for a log: one line, no control characters, bounded."""
    return "".join(c if c.isprintable() else " " for c in text[: limit * 4]).strip()[:limit]
