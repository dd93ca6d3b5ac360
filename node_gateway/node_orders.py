"""The node's own record of its orders, shared by the agent, who writes it, and the gateway, who gives a run's workloads
their tokens by it. What the broker says of an order counts only as a wish.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from itertools import islice
from typing import Any

import sqlalchemy as sa

from gdi.contracts.cohorts import EpochCohorts
from gdi.contracts.orders import ENDED_ORDER, OrderClaims
from gdi.contracts.run_token import RunClaims
from gdi.kit.database import insert
from gdi.kit.jose import SigningKey
from node_gateway.db import store as db
from node_gateway.epochs import store
from node_gateway.epochs.admission import OpenEpoch

AT_WORK = ("taken", "running")
TOKEN_LIFETIME = 300.0
MOST_CHOICES, MOST_LISTED = 200, 100  # cohorts of a dataset, and datasets, that a heartbeat tells of


@dataclass(frozen=True)
class NodeOrder:
    """One order as this node has it. `approved`: a person of the node's trust read the workflow. `rules`: the names
    that its files have. `wanted`: what a release was asked for. `reported`: the broker knows how it ended. Times are
    seconds since the epoch.
    """

    run: str
    kind: str
    attempt: int
    nonce: str
    state: str
    broker_generation: int
    user: str
    workflow: str
    digest: str
    datasets: list[str]
    parameters: dict[str, Any]
    deadline: float
    access_ends_at: float
    approved: bool
    rules: list[str]
    pod: str | None
    pod_uid: str | None
    pod_generation: int
    cancelling: str
    reason: str
    detail: str
    dataset: str | None
    released: list[dict[str, Any]]
    wanted: list[dict[str, Any]]
    reported: bool

    @property
    def key(self) -> tuple[str, str, int]:
        return self.run, self.kind, self.attempt

    @property
    def over(self) -> bool:
        return self.state in ENDED_ORDER

    def token(self, key: SigningKey, node: str, audience: str, scope: str, *, workload: str = "agent") -> str:
        """A run token of the node's own, for its own gateway."""
        claims = RunClaims(
            sub=self.user,
            run=self.run,
            attempt=self.attempt,
            node=node,
            workflow=self.workflow,
            digest=self.digest,
            datasets=self.datasets,
            scope=scope,
            generation=self.pod_generation if "tasks" in scope.split() else 0,
            wl=workload,
        )
        return claims.sign(key, issuer=node, audience=audience, lifetime=self.lifetime())

    def lifetime(self) -> float:
        """Seconds that a token may live now: none is left where access or the order ended."""
        return min(TOKEN_LIFETIME, self.access_ends_at - time.time(), self.deadline - time.time())


class NodeOrders:
    def __init__(self, database: db.GatewayDatabase) -> None:
        self._db = database

    async def open_epochs(self) -> list[OpenEpoch]:
        """What of the node's epochs an admission may depend on."""
        async with self._db.read() as connection:
            return await store.open_epochs(connection)

    async def newest_cohorts(self) -> dict[str, EpochCohorts]:
        """What a run may name of each dataset's newest epoch, as far as it can be listed."""
        async with self._db.read() as connection:
            found = {epoch.dataset: epoch.cohorts for epoch in await store.all_epochs(connection)}
        listed = {dataset: one for dataset, one in found.items() if len(one.choices) <= MOST_CHOICES}
        return dict(islice(listed.items(), MOST_LISTED))

    async def add(self, claims: OrderClaims, broker_generation: int) -> bool:
        """Whether it is new: False where the order is here already, or its nonce was used for another."""
        values = {
            "run": claims.run,
            "kind": claims.kind,
            "attempt": claims.attempt,
            "nonce": claims.jti,
            "state": "taken",
            "broker_generation": broker_generation,
            "user": claims.sub,
            "workflow": claims.workflow,
            "digest": claims.digest,
            "datasets": claims.datasets,
            "parameters": {},
            "deadline": claims.deadline,
            "access_ends_at": claims.deadline,
            "approved": False,
            "rules": [],
            "pod_generation": 0,
            "cancelling": "",
            "reason": "",
            "detail": "",
            "released": [],
            "wanted": [],
            "reported": False,
        }
        async with self._db.write() as connection:
            statement = insert(connection, db.orders).values(**values).on_conflict_do_nothing()
            return (await connection.execute(statement)).rowcount == 1

    async def get(self, run: str, kind: str, attempt: int) -> NodeOrder | None:
        query = sa.select(db.orders).filter_by(run=run, kind=kind, attempt=attempt)
        async with self._db.read() as connection:
            row = (await connection.execute(query)).mappings().first()
        return None if row is None else NodeOrder(**row)

    async def change(self, order: NodeOrder, **values: Any) -> NodeOrder:
        """The order with these values; what is over stays as it is, but for whether that was told."""
        async with self._db.write() as connection:
            where = sa.and_(
                db.orders.c.run == order.run, db.orders.c.kind == order.kind, db.orders.c.attempt == order.attempt
            )
            if set(values) != {"reported"}:
                where = sa.and_(where, db.orders.c.state.in_(AT_WORK))
            await connection.execute(db.orders.update().where(where).values(**values))
        found = await self.get(*order.key)
        assert found is not None
        return found

    async def unfinished(self) -> list[NodeOrder]:
        """Those that go on, or whose end the broker has not heard of."""
        query = sa.select(db.orders).where(sa.or_(db.orders.c.state.in_(AT_WORK), db.orders.c.reported.is_(False)))
        async with self._db.read() as connection:
            return [NodeOrder(**row) for row in (await connection.execute(query)).mappings()]

    async def of_run(self, run: str) -> list[NodeOrder]:
        query = sa.select(db.orders).filter_by(run=run).order_by(db.orders.c.attempt)
        async with self._db.read() as connection:
            return [NodeOrder(**row) for row in (await connection.execute(query)).mappings()]

    async def approved(self, run: str, attempt: int) -> bool:
        """Whether the analysis that goes on is of a workflow that a person of the node's trust read."""
        order = await self.analysis(run, attempt)
        return order is not None and order.approved

    async def analysis(self, run: str, attempt: int) -> NodeOrder | None:
        """The analysis of this attempt, where the node admitted it and it goes on."""
        order = await self.get(run, "analyse", attempt)
        return order if order is not None and order.state == "running" else None
