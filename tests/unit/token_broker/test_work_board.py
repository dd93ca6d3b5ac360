"""What many agents that wait cost: those that began at once do not end at once, and a wait that ends looks no more."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from gdi.contracts.orders import Work
from token_broker.db.store import BrokerDatabase
from token_broker.orders import work as module
from token_broker.orders.work import WorkBoard


async def test_agents_that_began_at_once_do_not_ask_again_at_once(
    store: BrokerDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A thousand agents that poll in step kept an order waiting for 5 s each time."""
    shares = [0.09, 0.05, 0.001]
    monkeypatch.setattr(module.random, "uniform", lambda least, most: shares.pop())
    board = WorkBoard(store)
    ended: list[str] = []

    async def agent(name: str) -> None:
        await board.work(name, 0, 5)
        ended.append(name)

    await asyncio.gather(*(agent(name) for name in ("first", "second", "third")))
    assert ended == ["first", "second", "third"] and shares == []
    await board.stop()


async def test_a_wait_that_ends_without_news_looks_no_second_time(
    store: BrokerDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    board = WorkBoard(store)
    looks, page = [], board._page

    async def counted(node: str, after: int) -> Work:
        looks.append(node)
        return await page(node, after)

    counting: Callable[[str, int], Awaitable[Work]] = counted
    monkeypatch.setattr(board, "_page", counting)
    assert (await board.work("node-a", 0, 0.05)).items == []
    assert looks == ["node-a"]
    await board.stop()
