"""An order is given up on the broker's own word only, not on a page of a proxy's."""

from __future__ import annotations

import time
from types import SimpleNamespace
from typing import Any

import httpx
import pytest

from gdi.broker_client.client import as_problem
from gdi.kit.problem import ProblemError
from node_gateway.agent import agent
from node_gateway.agent.agent import NodeAgent

ASKED = httpx.Request("POST", "http://broker/v1/runs/r/orders/n/analyse/take")
PAGES = [httpx.Response(s, html="<h1>no</h1>", request=ASKED) for s in (403, 404)]


def own(status: int, **more: str) -> ProblemError:
    return ProblemError(status, "order-conflict" if more else "order-unknown", "no", action="none", **more)


@pytest.mark.parametrize(
    ("said", "generation"),
    [
        (as_problem(PAGES[0]), 7),
        (as_problem(PAGES[1]), 7),
        (httpx.ConnectError("away"), 7),
        (own(503), 7),
        (own(403), None),
        (own(404), None),
        (own(409, conflict="order-over"), None),
    ],
    ids=["page-403", "page-404", "away", "own-503", "own-403", "own-404", "over"],
)
async def test_an_order_is_given_up_on_the_brokers_own_word(
    said: Exception, generation: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(agent, "PAUSE", 0)
    answers: list[Any] = [said, SimpleNamespace(generation=7)]

    async def take(*_: object) -> Any:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    itself: Any = SimpleNamespace(broker=SimpleNamespace(take=take))
    item: Any = SimpleNamespace(status=None)
    claims: Any = SimpleNamespace(jti="j", deadline=time.time() + 60)
    assert await NodeAgent._taken(itself, item, claims) == generation
