"""How the gateway is, looked at by itself in the background: who asks `/readyz` from outside reads what is known, and
makes the gateway ask nobody.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Protocol

import sqlalchemy as sa

from gdi.kit.database import DatabaseAwayError
from gdi.kit.jose import RemoteKeys, TokenError
from node_gateway.audit import Audit
from node_gateway.db.store import GatewayDatabase
from node_gateway.policy import PolicyFile

EVERY = 5.0  # seconds between looks
MOST = 6.0  # seconds for one part to answer
TELL = 600.0  # seconds between lines of counted refusals


class Part(Protocol):
    """TES, archive or bucket."""

    async def alive(self) -> bool: ...


@dataclass
class Health:
    """`checks`: the last word about each part, `ok` or what is wrong. The gateway is ready where its database answers;
    what it leans on is told beside it. A policy file with a mistake does not end its readiness: the last good policy is
    in force, and `policy` says so.
    """

    database: GatewayDatabase
    keys: RemoteKeys
    parts: dict[str, Part]
    policy: PolicyFile
    audit: Audit
    enrolment: Callable[[str], Awaitable[str]] | None = None  # of BrokerConnection
    checks: dict[str, str] = field(default_factory=dict)

    @property
    def ready(self) -> bool:
        return self.checks.get("database") == "ok"

    @property
    def words(self) -> dict[str, str]:
        """The last word about each part, without the reason: what the centre may hear."""
        known = {name: "away" if word.startswith("away") else word for name, word in self.checks.items()}
        return {name: word if word in ("ok", "away") else "not as it should be" for name, word in known.items()}

    async def look(self) -> dict[str, str]:
        """Asks every part now."""

        async def database() -> str:
            async with self.database.read() as connection:
                await connection.execute(sa.text("SELECT 1"))
            return "ok"

        async def broker() -> str:
            await self.keys.keys()
            return "ok"

        async def alive(part: Part) -> str:
            return "ok" if await part.alive() else "away"

        placement = self.policy.current().placement
        checks: dict[str, Awaitable[str]] = {"database": database(), "broker": broker()}
        if self.enrolment is not None:
            checks["enrolment"] = self.enrolment(placement)
        checks |= {name: alive(part) for name, part in self.parts.items()}
        found = await asyncio.gather(*(_bounded(check) for check in checks.values()))
        self.policy.current()
        policy = f"the last good one is in force, for {self.policy.problem}" if self.policy.problem else "ok"
        mine = {"policy": policy, "datasets": self.policy.datasets.problem or "ok"}
        self.checks = {**dict(zip(checks, found, strict=True)), **mine}
        return self.checks

    async def for_ever(self) -> None:
        """Looks every few seconds, and has the audit tell now and then of what it only counted."""
        last_notice = time.monotonic()
        while True:
            await self.look()
            if time.monotonic() - last_notice > TELL:
                last_notice = time.monotonic()
                with contextlib.suppress(DatabaseAwayError, sa.exc.SQLAlchemyError):  # told the next time then
                    await self.audit.tell_counts()
            await asyncio.sleep(EVERY * random.uniform(0.8, 1.2))  # noqa: S311


async def _bounded(check: Awaitable[str]) -> str:
    try:
        return await asyncio.wait_for(check, MOST)
    except (TimeoutError, TokenError, DatabaseAwayError, sa.exc.SQLAlchemyError) as error:
        return f"away ({type(error).__name__})"
