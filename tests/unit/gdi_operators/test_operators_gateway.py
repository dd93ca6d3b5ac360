"""What another node's gateway answers is read within bounds, and one that holds no question is not asked without
pause.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from gdi.contracts import broker_api as m
from gdi.contracts.cohorts import CohortChoice
from gdi.contracts.gateway_api import ReleaseRequest
from gdi.kit.bounded_read import BoundedAsyncClient, BoundedClient
from gdi.kit.problem import ProblemError
from gdi_operators.hooks import gateway as hook
from gdi_operators.hooks.gateway import GatewayClient
from gdi_operators.triggers import release as trigger
from tests.support.clock import virtual_time
from tests.support.wire import answers_of
from tests.support.wires import GATEWAY

REQUEST = ReleaseRequest(name="counts", path="counts.json", kind="allele-counts")
ITEM = {"node": "node-a", "gateway_url": "http://gateway.test", "audience": "x"}


class Endless(httpx.SyncByteStream, httpx.AsyncByteStream):
    """A body without end; `sent` is how much of it was read."""

    sent = 0

    def __iter__(self) -> Iterator[bytes]:
        while True:
            self.sent += 65536
            yield b" " * 65536

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for part in self:
            yield part


class Broker:
    async def token(self, _run: str, _request: m.TokenRequest) -> m.Token:
        return m.Token(token="t", expires_at=time.time() + 300)


def waiting(until: float) -> trigger.ReleaseTrigger:
    return trigger.ReleaseTrigger(run="r-1", item=ITEM, release="counts", until=until)


@pytest.mark.parametrize("status", [200, 403])
async def test_an_endless_answer_ends_at_the_limit(
    status: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    bodies: list[Endless] = []

    def answer(_: httpx.Request) -> httpx.Response:
        bodies.append(Endless())
        return httpx.Response(status, stream=bodies[-1])

    transport = httpx.MockTransport(answer)
    gateway = GatewayClient(None, "r-1", ITEM, patience=0)  # type: ignore[arg-type]
    options: dict[str, Any] = {"max_answer": hook.MAX_ANSWER, "base_url": "http://gateway.test"}
    monkeypatch.setattr(gateway, "_client", lambda _: BoundedClient(transport=transport, **options))
    calls: list[Any] = [lambda: gateway.ask_release(REQUEST), lambda: gateway.close(1)]
    calls.append(lambda: gateway.admit(["allele-counts"], CohortChoice()))
    if status != 200:
        calls.append(lambda: gateway.fetch("counts", tmp_path / "release", limit=10))
    for call in calls:
        with pytest.raises(ProblemError, match=r"bad-answer|more than"):
            call()
    async with BoundedAsyncClient(transport=transport, **options) as client:
        with pytest.raises(ProblemError, match="more than"):
            await waiting(0)._ask(client, "t", 1)
    assert len(bodies) == len(calls) + 1 and all(body.sent <= hook.MAX_ANSWER + 2 * 65536 for body in bodies)


@virtual_time
async def test_a_gateway_that_answers_at_once_is_not_asked_without_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[float] = []

    def answer(_: httpx.Request) -> httpx.Response:
        asked.append(time.monotonic())
        return httpx.Response(200, json={"state": "awaiting-review" if len(asked) < 4 else "published"})

    assert trigger.EARLY >= 1
    monkeypatch.setattr(trigger, "EARLY", 0.2)
    async with BoundedAsyncClient(transport=answers_of(GATEWAY, answer), base_url="http://gateway.test") as client:
        assert await waiting(time.time() + 60)._wait(Broker(), client) == ("decided", "published")  # type: ignore[arg-type]
    assert all(later - before >= 0.2 for before, later in itertools.pairwise(asked))


@virtual_time
async def test_one_that_held_the_question_is_asked_again_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    made, states = waiting(time.time() + 60), ["awaiting-review"] * 3 + ["published"]

    async def held(_gateway: Any, _token: str, wait: float) -> str:
        await trigger.asyncio.sleep(wait)
        return states.pop(0)

    monkeypatch.setattr(trigger, "LONG_POLL", 0.05)
    monkeypatch.setattr(trigger, "EARLY", 30)
    monkeypatch.setattr(made, "_ask", held)
    begun = time.monotonic()
    assert await made._wait(Broker(), None) == ("decided", "published") and time.monotonic() - begun < 5  # type: ignore[arg-type]
