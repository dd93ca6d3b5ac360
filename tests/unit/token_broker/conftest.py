"""A broker's database on SQLite, empty."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from token_broker.db.store import BrokerDatabase


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[BrokerDatabase]:
    found = BrokerDatabase.open(f"sqlite+aiosqlite:///{tmp_path}/broker.db")
    await found.create()
    yield found
    await found.close()
