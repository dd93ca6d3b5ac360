"""How the broker is, looked at by itself in the background: who asks `/readyz` from outside makes it ask nobody."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

import sqlalchemy as sa

from token_broker.db.store import BrokerDatabase
from token_broker.enrolment import EnrolmentFile
from token_broker.tokens.vault import Vault, VaultUnavailable

MOST = 8.0  # seconds for a part to answer


@dataclass
class Health:
    """`failing`: what does not work, by part, at the last look. The identity provider is not asked: without it the
    broker still serves what it holds.
    """

    store: BrokerDatabase
    vault: Vault
    enrolment: EnrolmentFile
    failing: dict[str, str] = field(default_factory=lambda: {"server": "starting"})

    async def look(self) -> dict[str, str]:
        """Asks every part now."""
        failing: dict[str, str] = {}
        try:
            async with asyncio.timeout(MOST), self.store.read() as c:
                await c.execute(sa.text("SELECT 1"))
        except Exception as error:
            failing["database"] = type(error).__name__
        try:
            async with asyncio.timeout(MOST):
                await self.vault.check()
        except VaultUnavailable as error:
            failing["vault"] = str(error)
        except TimeoutError as error:
            failing["vault"] = type(error).__name__
        self.enrolment.look()
        self.failing = failing
        return failing
