"""What a failed call means for a run: try again, give up for now, or never. RFC 9457 problems of the servers."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from typing import TypeVar

import httpx

from gdi.broker_client.client import OF_ANY_HOP, as_problem
from gdi.contracts.problems import SILENCED
from gdi.kit.problem import PROBLEM_JSON, ProblemError
from gdi.kit.retry import Failure, RetryPolicy, acall_again

T = TypeVar("T")
AGAIN = 75  # sysexits.h EX_TEMPFAIL
_HTML = re.compile(r"(?is)<(script|style)\b.*?</\1>|<[^>]*>")
TRANSIENT = frozenset({408, 425, 429, 500, 502, 503, 504})
PAGES = frozenset({"text/html", "application/xhtml+xml"})


class Away(Exception):
    """A server has been away for longer than patience lasts: what, where, since when. The pod exits with 75 and may be
    started again.
    """


class Refusal(Exception):
    """The run may not go on (token refused, run closed, pod replaced): retrying cannot help. `detail` is fit for a
    user's eyes.
    """

    def __init__(self, detail: str, *, dataset: str | None = None) -> None:
        super().__init__(detail)
        self.dataset = dataset


def error_of(answer: httpx.Response) -> Exception:
    """What an unsuccessful answer means: Refusal where this process may not go on at all, ProblemError otherwise."""
    error = as_problem(answer)
    if error.slug == "http-error":
        # What a TES that is no gateway says of it, by its status: bounded, one line, in the server's own words.
        text = _HTML.sub(" ", answer.text[:20_000]) if "<html" in answer.text[:2000].lower() else answer.text
        detail = " ".join("".join(c if c.isprintable() else " " for c in text[:600]).split())[:300]
        error = ProblemError(
            answer.status_code,
            "http-error",
            f"{answer.request.url.path} answered {answer.status_code}{f': {detail}' if detail else '.'}",
        )
    if error.problem.status == 401 or error.slug in SILENCED:
        return Refusal(f"{answer.request.url.path} refused this run: {error}")
    return error


def check_words(answer: httpx.Response) -> None:
    """ProblemError 502 where an answer is not the gateway's own: a page, a refusal without the gateway's words, a way
    to another server. What stands before the gateway says nothing of a run, of a file, or of what was stored. By the
    header, since the answer to a HEAD has no body.
    """
    status, request = answer.status_code, answer.request
    kind = answer.headers.get("content-type", "").partition(";")[0].strip().lower()
    refused = 400 <= status < 500 and status not in OF_ANY_HOP and kind != PROBLEM_JSON
    elsewhere = 300 <= status < 400 and request.url.join(answer.headers.get("location", "")).host != request.url.host
    if refused or elsewhere or kind in PAGES:
        what = f"{request.url.path} answered {status}, but not in the gateway's own words"
        action = "Look at the gateway's address, and at what stands before it."
        raise ProblemError(502, "http-error", f"{what} (a proxy's page, it may be).", action=action)


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
    last_notice = 0.0

    def reason(error: Exception) -> str:
        return error.problem.detail if isinstance(error, ProblemError) else type(error).__name__

    def note(failure: Failure) -> None:
        nonlocal last_notice
        if failure.since - last_notice >= 15 or (not last_notice and failure.attempt == 3):
            last_notice = failure.since
            bound = f"(since {failure.since:.0f} s, at most {patience.total:.0f} s)"
            say(f"Waiting for {what}: {reason(failure.error)} {bound}")

    def away(failure: Failure) -> Away:
        return Away(f"{what} has not answered for {failure.since:.0f} s ({reason(failure.error)})")

    return await acall_again(call, patience, again=lambda f: transient(f.error), note=note, gave_up=away)
