"""What was last heard of each enrolled node."""

from __future__ import annotations

import time
from typing import Any

import sqlalchemy as sa

from gdi.contracts.nodes import AWAY_AFTER, Heartbeat, NodeLife, NodeStatus
from gdi.kit.problem import ProblemError
from token_broker.db.store import BrokerDatabase, nodes, orders
from token_broker.db.upsert import upsert
from token_broker.enrolment import EnrolmentFile, Node
from token_broker.runs.order_rows import GOING_ON


class KnownNodes:
    def __init__(self, store: BrokerDatabase, enrolment: EnrolmentFile) -> None:
        self._store, self._enrolment = store, enrolment

    async def heard(self, node: Node, beat: Heartbeat) -> None:
        """A heartbeat. 409 `placement-differs` where the node's policy and its enrolment do not agree."""
        status = {**beat.model_dump(mode="json"), "clock_off": round(beat.time - time.time(), 1)}
        async with self._store.write() as c:
            row = {"node": node.id, "news": 0, "seen_at": time.time(), "status": status}
            await upsert(c, nodes, [row], replace=("seen_at", "status"))
        if beat.placement != node.placement:
            raise ProblemError(
                409,
                "placement-differs",
                f"Node {node.id} is enrolled with placement {node.placement}, its policy says {beat.placement}.",
                action="The operators of both sides agree on one of them.",
            )

    async def statuses(self) -> dict[str, dict[str, Any]]:
        """By node what its last heartbeat told."""
        async with self._store.read() as c:
            return {row.node: row.status or {} for row in await c.execute(sa.select(nodes.c.node, nodes.c.status))}

    async def all(self) -> list[NodeStatus]:
        """Every enrolled node, by id; one that was never seen too."""
        async with self._store.read() as c:
            rows = {row.node: row for row in await c.execute(sa.select(nodes))}
            going_on = sa.select(orders.c.node, orders.c.state, sa.func.count()).where(orders.c.state.in_(GOING_ON))
            counts: dict[str, dict[str, int]] = {}
            for name, state, count in await c.execute(going_on.group_by(orders.c.node, orders.c.state)):
                counts.setdefault(name, {})[state] = count
        found = []
        for node in sorted(self._enrolment.current.nodes, key=lambda n: n.id):
            row = rows.get(node.id)
            seen = row.seen_at if row is not None else None
            status = (row.status if row is not None else None) or {}
            found.append(
                NodeStatus(
                    node=node.id,
                    life=life(seen),
                    placement=node.placement,
                    seen_at=seen,
                    version=status.get("version", ""),
                    health=status.get("health", {}),
                    free_slots=status.get("free_slots"),
                    clock_off=status.get("clock_off"),
                    gateway_url=node.gateway_url,
                    datasets=list(node.datasets),
                    orders=counts.get(node.id, {}),
                    limits=status.get("limits", []),
                )
            )
        return found


def life(seen_at: float | None) -> NodeLife:
    if seen_at is None:
        return "never-seen"
    return "up" if time.time() - seen_at < AWAY_AFTER else "away"
