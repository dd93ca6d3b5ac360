"""Bounded patience: exponential backoff with full jitter, and the one error that says "try again later"."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar

import httpx

from gdi.broker_client.client import as_problem
from gdi.kit.problem import ProblemError

T = TypeVar("T")
AGAIN = 75  # sysexits.h EX_TEMPFAIL
TRANSIENT = frozenset({408, 425, 429, 500, 502, 503, 504})


class Away(Exception):
    """A server has been away for longer than patience lasts: what, where, since when. The pod exits with 75 and may be
    started again.
    """


class Refused(Exception):
    """The run may not go on (token refused, run closed, pod replaced): retrying cannot help. `detail` is fit for a
    user's eyes.
    """

    def __init__(self, detail: str, *, dataset: str | None = None) -> None:
        super().__init__(detail)
        self.dataset = dataset


# The server's words for "this process may not speak for the run any more".
SILENCED = frozenset({"stale-attempt", "stale-workload", "run-closed", "wrong-node", "missing-scope"})


def error_of(answer: httpx.Response) -> Exception:
    """What an unsuccessful answer means: Refused where this process may not go on at all, ProblemError otherwise."""
    error = as_problem(answer)
    if error.slug == "http-error" and answer.content:
        # What a TES that is no gateway says of it: bounded, one line, in the server's own words.
        said = "".join(c if c.isprintable() else " " for c in answer.text[:300]).strip()
        error = ProblemError(
            answer.status_code, "http-error", f"{answer.request.url.path} answered {answer.status_code}: {said}"
        )
    if error.problem.status == 401 or error.slug in SILENCED:
        return Refused(f"{answer.request.url.path} refused this run: {error}")
    return error


@dataclass(frozen=True)
class RetryPolicy:
    """How long to wait for a server: `total` seconds over all tries; pauses grow from `first` to `longest` seconds."""

    total: float = 600
    first: float = 0.2
    longest: float = 30

    def pause(self, attempt: int) -> float:
        """Seconds to wait after try number `attempt` (from 1): between half and all of the exponential step."""
        step: float = min(self.longest, self.first * 2 ** min(attempt - 1, 30))
        return step * random.uniform(0.5, 1)  # noqa: S311


def transient(error: Exception) -> bool:
    """Whether trying again may help: the network, a server that is overloaded or restarting."""
    if isinstance(error, ProblemError):
        return error.problem.status in TRANSIENT
    return isinstance(error, httpx.TransportError)


async def persist(
    call: Callable[[], Awaitable[T]], *, what: str, patience: RetryPolicy, say: Callable[[str], None]
) -> T:
    """Calls until it succeeds, fails for good (that error is raised) or patience is at its end (Away). `say` hears what
    it waits for, at most every 15 s.
    """
    began, attempt, told = time.monotonic(), 0, 0.0
    while True:
        attempt += 1
        try:
            return await call()
        except (ProblemError, httpx.TransportError) as error:
            if not transient(error):
                raise
            waited = time.monotonic() - began
            reason = error.problem.detail if isinstance(error, ProblemError) else type(error).__name__
            if waited >= patience.total:
                raise Away(f"{what} has not answered for {waited:.0f} s ({reason})") from None
            if waited - told >= 15 or (not told and attempt == 3):
                told = waited
                say(f"Waiting for {what}: {reason} (since {waited:.0f} s, at most {patience.total:.0f} s)")
            await asyncio.sleep(min(patience.pause(attempt), max(0.05, patience.total - waited)))
