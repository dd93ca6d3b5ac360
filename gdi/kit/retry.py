"""Calling again while a server is away: within a bound of time, with growing pauses and jitter. Over tenacity."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from tenacity import AsyncRetrying, RetryCallState, Retrying

T = TypeVar("T")
SHORTEST = 0.05  # seconds; the last pause, which is cut short by the end of the time


@dataclass(frozen=True)
class RetryPolicy:
    """How long to wait for a server: `total` seconds over all tries; pauses grow from `first` to `longest` seconds by
    `factor`, each multiplied by a random number of `jitter`.

    `last_try`: the last pause is cut short, so that there is a try when `total` is over; else no pause goes beyond it.
    """

    total: float = 600
    first: float = 0.2
    longest: float = 30
    factor: float = 2
    jitter: tuple[float, float] = (0.5, 1)
    last_try: bool = True

    def pause(self, attempt: int) -> float:
        """Seconds to wait after try number `attempt` (from 1)."""
        step = self.first
        for _ in range(min(attempt - 1, 100)):
            if step >= self.longest:
                break
            step *= self.factor
        return min(step, self.longest) * random.uniform(*self.jitter)  # noqa: S311


def every(seconds: float, total: float = float("inf")) -> RetryPolicy:
    """The same pause after each try."""
    return RetryPolicy(total=total, first=seconds, longest=seconds, jitter=(1, 1))


@dataclass(frozen=True)
class Failure:
    """A try that failed: number `attempt` (from 1), `since` seconds after the first one began; the next comes in
    `pause` seconds.
    """

    error: Exception
    attempt: int
    since: float
    pause: float


def _silent(failure: Failure) -> None:
    return


def call_again(
    call: Callable[[], T],
    policy: RetryPolicy,
    *,
    again: Callable[[Failure], bool],
    note: Callable[[Failure], None] = _silent,
    gave_up: Callable[[Failure], Exception] | None = None,
    sleep: Callable[[float], None] | None = None,
) -> T:
    """The call's answer. An error is raised as it is where `again` says no; at the end of the time the last one is, or
    what `gave_up` makes of it. `note` hears of each failure before its pause.
    """
    found: T = Retrying(sleep=sleep or time.sleep, **_controls(policy, again, note, gave_up))(call)
    return found


async def acall_again(
    call: Callable[[], Awaitable[T]],
    policy: RetryPolicy,
    *,
    again: Callable[[Failure], bool],
    note: Callable[[Failure], None] = _silent,
    gave_up: Callable[[Failure], Exception] | None = None,
) -> T:
    """`call_again` on an event loop."""
    retrying = AsyncRetrying(sleep=asyncio.sleep, **_controls(policy, again, note, gave_up))

    async def once() -> T:  # tenacity awaits only what it knows as a coroutine function
        return await call()

    found: T = await retrying(once)
    return found


def _controls(
    policy: RetryPolicy,
    again: Callable[[Failure], bool],
    note: Callable[[Failure], None],
    gave_up: Callable[[Failure], Exception] | None,
) -> dict[str, Any]:  # tenacity's own arguments
    def repeat(state: RetryCallState) -> bool:
        return isinstance(_error(state), Exception) and again(_failure(state))

    def wait(state: RetryCallState) -> float:
        pause, rest = policy.pause(state.attempt_number), policy.total - _since(state)
        return min(pause, max(SHORTEST, rest)) if policy.last_try else pause

    def stop(state: RetryCallState) -> bool:
        return _since(state) + (0 if policy.last_try else state.upcoming_sleep) >= policy.total

    def at_end(state: RetryCallState) -> Any:  # never returns
        failure = _failure(state)
        if gave_up is None:
            raise failure.error
        raise gave_up(failure) from None

    return {
        "retry": repeat,
        "wait": wait,
        "stop": stop,
        "before_sleep": lambda state: note(_failure(state)),
        "retry_error_callback": at_end,
    }


def _error(state: RetryCallState) -> BaseException | None:
    return state.outcome.exception() if state.outcome is not None else None


def _since(state: RetryCallState) -> float:
    return state.seconds_since_start or 0.0


def _failure(state: RetryCallState) -> Failure:
    error = _error(state)
    assert isinstance(error, Exception)
    return Failure(error, state.attempt_number, _since(state), state.upcoming_sleep)
