"""A world of the broker's in which node-a has an agent of its own, and what that agent and Airflow do there."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, TypeVar

from gdi.broker_client.node_agent import NodeAgentClient
from gdi.contracts import broker_api as m
from gdi.contracts import orders as o
from gdi.contracts.packed_workflow import packed
from gdi.contracts.workflow_files import digest_of
from gdi.kit.jose import SigningKey
from tests.support.broker_kit import World

T = TypeVar("T")
WORKFLOW = Path(__file__).parents[2] / "workflows" / "allele-frequency"
PACK = packed(WORKFLOW)
PACK_DIGEST = digest_of(WORKFLOW)


class AgentWorld(World):
    """node-a: placement node; node-b: coordinator."""

    def enrolment(self) -> dict[str, Any]:
        document = super().enrolment()
        document["nodes"][0]["placement"] = "node"
        return document

    def agent(self, node: str, call: Callable[[NodeAgentClient], Coroutine[Any, Any, T]]) -> T:
        """What the node's agent hears; ProblemError."""

        async def once() -> T:
            async with NodeAgentClient(self.url(), lambda: self.assertion(node)) as client:
                return await call(client)

        return asyncio.run(once())

    def work(self, after: int = 0, wait: float = 0, node: str = "node-a") -> o.Work:
        return self.agent(node, lambda c: c.work(node, after=after, wait=wait))

    def order(self, run: m.Run, kind: o.OrderKind = "analyse", **changes: Any) -> o.OrderStatus:
        with self.airflow() as airflow:
            return airflow.put_order(run.id, "node-a", kind, self.request(run, **changes))

    def request(self, run: m.Run, **changes: Any) -> o.OrderRequest:
        values: dict[str, Any] = {
            "attempt": run.attempt,
            "deadline": run.opened_at + 3600,
            "parameters": self.parameters(),
        }
        return o.OrderRequest(**{**values, **changes})

    def find(self, run: m.Run, kind: str = "analyse") -> o.WorkItem:
        return next(i for i in self.work().items if (i.status.run, i.status.kind) == (run.id, kind))

    def take(self, item: o.WorkItem, nonce: str | None = None) -> o.OrderStatus:
        return self.agent("node-a", lambda c: c.take(item.status, nonce or nonce_of(item)))

    def report(self, status: o.OrderStatus, state: Any, node: str = "node-a", **more: Any) -> o.OrderStatus:
        report = o.OrderReport(**{"attempt": status.attempt, "generation": status.generation, "state": state, **more})
        return self.agent(node, lambda c: c.report(status.run, status.node, status.kind, report))

    def taken(self, run: m.Run, kind: o.OrderKind = "analyse", **changes: Any) -> o.OrderStatus:
        self.order(run, kind, **changes)
        return self.take(self.find(run, kind))


def claims_of(token: str) -> dict[str, Any]:
    import jwt

    found: dict[str, Any] = jwt.decode(token, options={"verify_signature": False})
    return found


def nonce_of(item: o.WorkItem) -> str:
    return str(claims_of(item.order)["jti"])


def forged(key: SigningKey, token: str, **changes: Any) -> str:
    """The same order with other claims, signed by another key."""
    claims = {**claims_of(token), **changes}
    return key.sign(claims, lifetime=claims["exp"] - time.time(), typ=o.TYPE)
