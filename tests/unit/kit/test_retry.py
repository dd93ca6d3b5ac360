"""Calls that are repeated: within their time, never for a refusal, with a pause that grows."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest

from gdi.kit.retry import SHORTEST, Failure, RetryPolicy, acall_again, call_again, every


class Away(Exception):
    pass


class Refused(Exception):
    pass


class GaveUp(Exception):
    pass


def failing(*errors: Exception) -> Any:
    rest = list(errors)

    def call() -> str:
        if rest:
            raise rest.pop(0)
        return "done"

    return call


def passing(failure: Failure) -> bool:
    return isinstance(failure.error, Away)


def test_pauses_grow_to_the_longest_with_jitter() -> None:
    policy = RetryPolicy(first=0.2, longest=3, factor=1.5, jitter=(0.5, 1))
    for attempt, step in ((1, 0.2), (2, 0.3), (3, 0.45), (50, 3), (100_000, 3)):
        for _ in range(20):
            assert step * 0.5 - 1e-9 <= policy.pause(attempt) <= step + 1e-9
    assert every(2).pause(1) == every(2).pause(9) == 2


def test_a_call_is_repeated_and_each_failure_told_once() -> None:
    heard: list[Failure] = []
    slept: list[float] = []
    found = call_again(failing(Away("a"), Away("b")), every(0.25), again=passing, note=heard.append, sleep=slept.append)
    assert found == "done" and slept == [0.25, 0.25]
    assert [(str(f.error), f.attempt, f.pause) for f in heard] == [("a", 1, 0.25), ("b", 2, 0.25)]


def test_a_refusal_is_raised_as_it_is_at_once() -> None:
    slept: list[float] = []
    refusal = Refused("no")
    with pytest.raises(Refused) as caught:
        call_again(failing(Away("a"), refusal), every(1), again=passing, sleep=slept.append)
    assert caught.value is refusal and slept == [1]
    with pytest.raises(KeyboardInterrupt):
        call_again(failing(KeyboardInterrupt()), every(1), again=lambda f: True)  # type: ignore[arg-type]


@pytest.mark.parametrize("gave_up", [None, lambda failure: GaveUp(str(failure.error))])
def test_the_time_ends_with_the_last_error_or_what_is_made_of_it(gave_up: Any) -> None:
    tries = 0

    def call() -> None:
        nonlocal tries
        tries += 1
        raise Away(str(tries))

    began = time.monotonic()
    with pytest.raises(GaveUp if gave_up else Away) as caught:
        call_again(call, RetryPolicy(total=0.3, first=0.2, longest=10), again=passing, gave_up=gave_up)
    took = time.monotonic() - began
    assert took >= 0.3 and str(caught.value) == str(tries) and tries >= 3, "the last try comes when the time is over"


def test_without_a_last_try_no_pause_goes_beyond_the_end() -> None:
    slept: list[float] = []
    policy = RetryPolicy(total=0.5, first=0.6, longest=1, jitter=(1, 1), last_try=False)
    with pytest.raises(Away):
        call_again(failing(Away("a"), Away("b")), policy, again=passing, sleep=slept.append)
    assert slept == []
    with pytest.raises(Away):
        call_again(failing(Away("a")), RetryPolicy(total=0, last_try=False), again=passing, sleep=slept.append)
    assert slept == []


def test_the_last_pause_is_cut_short() -> None:
    slept: list[float] = []
    with pytest.raises(Away):
        call_again(
            failing(*[Away(str(i)) for i in range(1000)]),
            RetryPolicy(total=0.2, first=60, longest=60),
            again=passing,
            sleep=lambda s: (slept.append(s), time.sleep(s))[1],
        )
    assert slept and max(slept) <= 0.2 + SHORTEST


async def test_the_same_on_an_event_loop_and_a_cancelled_call_ends() -> None:
    call = failing(Away("a"), Away("b"))

    async def acall() -> str:
        return str(call())

    assert await acall_again(acall, every(0.01), again=passing) == "done"

    assert await acall_again(lambda: acall(), every(0.01), again=passing) == "done"

    async def forever() -> None:
        raise Away("a")

    task = asyncio.create_task(acall_again(forever, every(30), again=passing))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
