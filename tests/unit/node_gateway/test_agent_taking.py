"""An order is given up on the broker's own word only, not on a page of a proxy's. One to release waits
for its analysis.
"""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast
from unittest.mock import AsyncMock

import httpx
import pytest

from gdi.broker_client.client import as_problem
from gdi.contracts.descriptor import Descriptor
from gdi.kit import tracing
from gdi.kit.problem import ProblemError
from node_gateway.agent import agent
from node_gateway.agent.agent import NodeAgent
from node_gateway.agent.decision import RefusedOrder
from node_gateway.agent.duties import EndRequest
from node_gateway.node_orders import NodeOrders
from node_gateway.policy import Policy
from tests.support.disclosure_node import disclosure_node

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


@pytest.mark.parametrize(
    ("comes", "end"), [("the analysis' end", None), ("a wish to stop", "cancelled"), ("the deadline", "expired")]
)
async def test_an_order_to_release_waits_for_its_analysis(
    comes: str, end: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(agent, "ANALYSIS_LOOK", 0.01)
    handlers: dict[Any, Any] = {}
    itself: Any = SimpleNamespace(_handlers=handlers)
    order: Any = SimpleNamespace(run="r", attempt=1, deadline=time.time() + (0.1 if comes == "the deadline" else 60))
    assert await NodeAgent._after_analysis(itself, order, EndRequest()) is None, "no analysis is at work"
    ending, wish = asyncio.Event(), EndRequest()

    async def analysis() -> None:
        await ending.wait()
        handlers.clear()

    handlers["r", "analyse", 1] = SimpleNamespace(task=asyncio.create_task(analysis()))
    waiting = asyncio.create_task(NodeAgent._after_analysis(itself, order, wish))
    await asyncio.sleep(0.03)
    assert not waiting.done()
    {"the analysis' end": ending.set, "a wish to stop": lambda: wish.set("closed")}.get(comes, lambda: None)()
    assert await asyncio.wait_for(waiting, 5) == end
    ending.set()


def again(reason: str | None, *, state: str = "running", order: str = "signed", key: str = "analyse") -> Any:
    """What `_why_not` asks, where the judge says this of the order now."""

    async def claims(*_: object) -> Any:
        return SimpleNamespace(digest="d")

    async def files(_: str) -> Any:
        return None

    async def admitted(*_: object) -> None:
        if reason is not None:
            raise RefusedOrder(cast(Any, reason), "because")

    async def get(*_: object) -> Any:
        return SimpleNamespace(state=state)

    judge = SimpleNamespace(claims=claims, files=files, admitted=admitted)
    itself: Any = SimpleNamespace(judge=judge, orders=SimpleNamespace(get=get))
    handler: Any = SimpleNamespace(order=order, wish=EndRequest())
    return NodeAgent._why_not(itself, ("r", key, 1), handler)


@pytest.mark.parametrize("reason", sorted(agent.REVOKED))
async def test_what_would_not_be_admitted_any_more_ends_by_the_nodes_own_judgement(reason: str) -> None:
    assert await again(reason) == f"{reason}: because"
    assert await again(reason, key="release") == f"{reason}: because"


@pytest.mark.parametrize("reason", [None, "visa-issuer-away", "workflow-away", "visa-expired", "bad-order", "not-open"])
async def test_a_server_that_is_away_and_what_ends_in_its_time_end_no_order(reason: str | None) -> None:
    assert await again(reason) is None


async def test_a_heartbeat_tells_the_terms_of_datasets_and_of_no_prefix(tmp_path: Path) -> None:
    """Its keys are ids of datasets: with another one there would be no heartbeat, and no agent."""
    terms = {"assembly": "GRCh37", "membership": "contract", "use": ["DUO:0000006"]}
    described = [Descriptor.model_validate({**terms, "dataset": dataset}) for dataset in ("DS-*", "DS1")]
    async with disclosure_node(tmp_path / "node", tmp_path / "empty.db") as node:
        launcher = SimpleNamespace(upkeep=AsyncMock(), live=AsyncMock(return_value=1))
        gateway = SimpleNamespace(health=AsyncMock(return_value={"gateway": "ok", "tes": "away"}))
        duties = SimpleNamespace(gateway=gateway, launcher=launcher, max_runs=2)
        policy = SimpleNamespace(current=Policy, datasets=SimpleNamespace(all=lambda: described))
        itself: Any = SimpleNamespace(duties=duties, policy=policy, orders=NodeOrders(node.database))
        beat = await NodeAgent.heartbeat(itself)
        assert beat.terms == {"DS1": ["DUO:0000006"]} and beat.free_slots == 1
        assert beat.health == {"gateway": "ok", "tes": "away", "launcher": "ok"}


async def test_what_is_not_at_work_is_not_judged_again() -> None:
    assert await again("user-vetoed", state="succeeded") is None
    assert await again("user-vetoed", order="") is None, "after a restart the broker tells it first"
    assert await again("user-vetoed", key="close") is None


@pytest.mark.parametrize(
    ("trace", "expected"), [(f"00-{'a' * 32}-{'b' * 16}-01", "a" * 32), ("x; rm -rf /", ""), ("", "")]
)
async def test_what_follows_an_order_is_a_part_of_its_trace(
    trace: str, expected: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    spans: list[tuple[str, str]] = []
    monkeypatch.setattr(tracing, "record_span", lambda name, traceparent, began: spans.append((name, traceparent)))
    followed: list[str] = []

    async def claims(*_: object) -> Any:
        return SimpleNamespace(run="r-1", kind="analyse", attempt=1, trace=trace)

    async def follow(*_: object) -> None:
        followed.append(tracing.trace_id())

    itself: Any = SimpleNamespace(judge=SimpleNamespace(claims=claims), _follow=follow)
    item: Any = SimpleNamespace(order="", status=SimpleNamespace(run="r-1", kind="analyse", attempt=1))
    with caplog.at_level("INFO"):
        await NodeAgent._take(itself, item, EndRequest())
    assert followed == [expected] and spans == [("order analyse", trace)]
    assert bool(caplog.messages) == bool(expected), "a line of the trace's own"
