"""What the gateway asks the broker: is this run open, and a user token for this node's SDA (fresh for each read) or TES
(kept for some seconds, decision 873). In memory only.
"""

from __future__ import annotations

import math
import time
from typing import Literal

import httpx

from gdi.broker_client.client import AsyncBrokerClient
from gdi.contracts.runs import Run
from gdi.contracts.tokens import NodeTokenRequest, Token
from gdi.kit import tracing
from gdi.kit.jose import SigningKey
from gdi.kit.named_lock import Locks, NamedLock
from gdi.kit.problem import ProblemError
from gdi.kit.recent import RecentValues
from gdi.kit.retry import RetryPolicy, acall_again

MAX_CACHED_RUNS = 10_000
ENROLMENT_FRESH = 120.0  # seconds


def assertion(key: SigningKey, node: str, issuer: str) -> str:
    """The gateway's own word, for one request: an ES256 JWT of 60 s, `iss` = `sub` = node, `aud` = the broker."""
    return key.sign({"iss": node, "sub": node, "aud": issuer}, lifetime=60)


class BrokerConnection:
    """`wait` seconds are given to a broker that restarts before a call is answered with 503."""

    def __init__(self, client: AsyncBrokerClient, node: str, *, fresh_for: float, wait: float) -> None:
        self._client = client
        self._node = node
        self.wait = wait
        self._runs = RecentValues[str, Run](fresh_for, MAX_CACHED_RUNS)
        self._tes_tokens = RecentValues[str, Token](fresh_for, MAX_CACHED_RUNS)
        self._traces = RecentValues[str, str](math.inf, MAX_CACHED_RUNS)  # by run, its traceparent
        self._asking: Locks = {}
        self._enrolment, self._enrolment_until = ("", ""), float("-inf")

    async def open_run(self, run: str, attempt: int) -> Run:
        """The run, open at `attempt` or later and with this node in its plan; what follows is a part of its trace.
        ProblemError 403 (closed, unknown, not ours) or 503 (broker away).
        """
        known = self._cached(run, attempt)
        if known is None:
            async with NamedLock(self._asking, run):
                known = self._cached(run, attempt) or await self._ask(run)
        if (trace := self._traces.get(run)) is not None:
            tracing.enter(trace)
        if known.state != "open":
            raise ProblemError(403, "run-closed", f"Run {run} is closed.", action="Start a new attempt of the run.")
        if known.attempt < attempt:
            raise ProblemError(
                403,
                "unknown-attempt",
                f"Run {run} is at attempt {known.attempt}, not {attempt}.",
                action="Have the attempt admitted first.",
            )
        return known

    async def enrolment(self, placement: str) -> str:
        """Whether the broker knows this node by its key: `ok`, or what the operator does about it; asked at most once
        in `ENROLMENT_FRESH` seconds, and more often while it does not.
        """
        now = time.monotonic()
        if now < self._enrolment_until and self._enrolment[0] == placement:
            return self._enrolment[1]
        found = await self._enrolled(placement)
        self._enrolment = placement, found
        self._enrolment_until = now + (ENROLMENT_FRESH if found == "ok" else ENROLMENT_FRESH / 6)
        return found

    async def _enrolled(self, placement: str) -> str:
        try:
            known = {status.node: status for status in (await self._client.nodes()).nodes}
        except ProblemError as error:
            if error.problem.status == 401:
                return (
                    "not enrolled: the broker does not know this node's key; give its operator what"
                    " `node-gateway init-key` prints, with NODE_ID, PUBLIC_URL and the datasets"
                )
            return f"not known ({error.slug})"
        except httpx.HTTPError as error:
            return f"not known (broker away: {type(error).__name__})"
        status = known.get(self._node)
        if status is None:
            return f"not enrolled: the broker knows no node {self._node}"
        if status.placement != placement:
            return f"placement differs: the enrolment says {status.placement}, the policy {placement}"
        return "ok"

    def forget(self, run: str) -> None:
        self._runs.drop(run)
        self._tes_tokens.drop(run)

    def _cached(self, run: str, attempt: int) -> Run | None:
        found = self._runs.get(run)
        return found if found is not None and found.attempt >= attempt else None

    async def _ask(self, run: str) -> Run:
        self._runs.drop(run)
        try:
            answer, trace = await self._client.get_traced_run(run)
        except ProblemError as error:
            if error.problem.status in (403, 404):
                raise ProblemError(
                    403,
                    "unknown-run",
                    f"The broker does not know run {run} at node {self._node}.",
                    action="Check the run's plan.",
                ) from None
            raise away(error.slug) from None
        except httpx.HTTPError as error:
            raise away(type(error).__name__) from None
        if answer.id != run or all(item.node != self._node for item in answer.plan):
            raise ProblemError(
                403, "unknown-run", f"Run {run} has no part at node {self._node}.", action="Check the run's plan."
            )
        self._traces.keep(run, trace)
        if answer.state == "open":
            self._runs.keep(run, answer)
        return answer

    async def tes_token(self, run: str, *, min_ttl: float = 5) -> str:
        """The user's access token for the TES, one that came within `fresh_for` seconds; else as `node_token`."""
        token = self._tes_tokens.get(run)
        if token is None or token.expires_at - time.time() < min_ttl:
            since = time.monotonic()
            token = await self._node_token(run, "tes", min_ttl)
            self._tes_tokens.keep(run, token, since)
        return token.token

    async def node_token(self, run: str, audience: Literal["sda", "tes"], *, min_ttl: float = 5) -> str:
        """The user's access token for this node, fresh from the broker. ProblemError: 403 with the broker's reason, or
        503 after `wait` seconds of trying.
        """
        return (await self._node_token(run, audience, min_ttl)).token

    async def _node_token(self, run: str, audience: Literal["sda", "tes"], min_ttl: float) -> Token:

        async def once() -> Token:
            return await self._client.node_token(run, NodeTokenRequest(audience=audience, min_ttl=min_ttl))

        try:
            return await acall_again(
                once,
                RetryPolicy(total=self.wait, first=0.2, longest=3, last_try=False),
                again=lambda failure: _passing(failure.error),
                gave_up=lambda failure: away(_reason(failure.error)),
            )
        except ProblemError as error:
            if not _passing(error):
                self.forget(run)
            raise


def _passing(error: Exception) -> bool:
    if isinstance(error, ProblemError):
        return error.problem.status >= 500 or error.problem.status == 429
    return isinstance(error, httpx.HTTPError)


def _reason(error: Exception) -> str:
    return error.slug if isinstance(error, ProblemError) else type(error).__name__


def away(problem: str) -> ProblemError:
    return ProblemError(
        503,
        "broker-away",
        f"The broker does not answer ({problem[:60]}).",
        action="Try again in a few seconds.",
        retry_after=3,
    )
