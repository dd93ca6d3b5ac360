"""A gateway's database on SQLite, empty."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from node_gateway.db.store import GatewayDatabase


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[GatewayDatabase]:
    opened = GatewayDatabase.open(f"sqlite+aiosqlite:///{tmp_path / 'gateway.db'}")
    await opened.create()
    yield opened
    await opened.close()
