"""Figures for Prometheus: requests, refreshes, dead grants, refusals. No label takes a value that a stranger
chooses.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from starlette.types import Scope

from gdi.contracts.orders import OrderState
from gdi.kit.measured import method, route
from token_broker.tokens.stored_tokens import StoredTokens
from token_broker.tokens.token_refresher import Note, NoteDead


class Metrics:
    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Histogram(
            "token_broker_request_seconds",
            "Requests by route and status",
            ["method", "route", "status"],
            registry=self.registry,
        )
        self.refreshes = Counter("token_broker_refreshes", "Refresh tokens redeemed", registry=self.registry)
        self.dead = Counter("token_broker_dead_grants", "Grants whose refresh token died", registry=self.registry)

        self.enrolment_problem = Gauge(
            "token_broker_enrolment_problem",
            "1 while the enrolment file has a mistake and the last good one is in force",
            registry=self.registry,
        )

        self.heard = Gauge(
            "token_broker_node_last_heard_timestamp_seconds",
            "When the node's agent was last heard; 0 where it never was",
            ["node"],
            registry=self.registry,
        )
        self.orders = Gauge(
            "token_broker_node_orders", "Orders of a node that go on", ["node", "state"], registry=self.registry
        )

    def nodes_now(self, nodes: Iterable[tuple[str, float | None, Mapping[OrderState, int]]]) -> None:
        """Enrolled nodes with an agent, when each was last heard, and how many of its orders go on."""
        self.heard.clear()
        self.orders.clear()
        for node, seen_at, orders in nodes:
            self.heard.labels(node).set(seen_at or 0.0)
            for state in ("waiting", "taken", "running"):
                self.orders.labels(node, state).set(orders.get(state, 0))

    def observe(self, scope: Scope, status: int, seconds: float) -> None:
        """For gdi.kit.measured: each request, by its route."""
        self.requests.labels(method(scope), route(scope), str(status)).observe(seconds)

    def counting_refresh(self, note: Note) -> Note:
        async def on_refresh(grant: str, stored: StoredTokens) -> None:
            self.refreshes.inc()
            await note(grant, stored)

        return on_refresh

    def counting_dead(self, note: NoteDead) -> NoteDead:
        async def on_dead(grant: str, why: str) -> None:
            self.dead.inc()
            await note(grant, why)

        return on_dead

    def text(self) -> bytes:
        return generate_latest(self.registry)
