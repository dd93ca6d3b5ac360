"""Of a node's agents one works: a second waits, and works as soon as the first has gone. On PostgreSQL:
tests/system/test_gateways_postgres.py.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any, cast

import pytest

from gdi.kit.database import DatabaseAwayError
from node_gateway.agent import one_agent as module
from node_gateway.agent.one_agent import one_agent

URL = "sqlite+aiosqlite:///gateway.db"


async def test_a_database_that_says_nothing_holds_no_lock(monkeypatch: pytest.MonkeyPatch) -> None:
    class Silent:
        async def execute(self, _: object) -> None:
            await asyncio.sleep(3600)

    monkeypatch.setattr(module, "PROOF", 0.01)
    with pytest.raises(DatabaseAwayError):
        await asyncio.wait_for(module._proven(cast(Any, Silent())), 5)


async def test_a_second_agent_waits_until_the_first_has_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(module, "LOOK", 0.01)
    order: list[str] = []
    release = asyncio.Event()

    async def agent(name: str) -> None:
        async with one_agent(URL, None, tmp_path) as lost:
            order.append(f"{name} begins")
            if name == "first":
                await release.wait()
            assert not lost.done()
            order.append(f"{name} ends")

    first = asyncio.create_task(agent("first"))
    while not order:
        await asyncio.sleep(0.01)
    second = asyncio.create_task(agent("second"))
    async with asyncio.timeout(60):
        while module.WAITS not in caplog.text:
            await asyncio.sleep(0.01)
    await asyncio.sleep(0.1)  # it looks ten times more
    assert order == ["first begins"] and caplog.text.count(module.WAITS) == 1
    release.set()
    await asyncio.wait_for(asyncio.gather(first, second), 60)
    assert order == ["first begins", "first ends", "second begins", "second ends"]
