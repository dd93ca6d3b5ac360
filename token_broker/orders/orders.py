"""Orders for nodes whose own agent starts Snakemake: made by Airflow's workload, signed here with the user's visas,
taken and reported on with the node's key. What becomes of an order `gdi.contracts.order_table` says.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy import RowMapping
from sqlalchemy.ext.asyncio import AsyncConnection

from gdi.contracts import order_table
from gdi.contracts.events import Event
from gdi.contracts.order_table import Order, OrderConflict
from gdi.contracts.orders import (
    LEASE,
    LatePart,
    LateParts,
    OrderClaims,
    OrderKind,
    OrderReport,
    OrderRequest,
    OrderStatus,
    OrderTake,
)
from gdi.contracts.orders import TYPE as ORDER_TYPE
from gdi.kit.canonical import canonical_json, sha256_hex
from gdi.kit.jose import SigningKey
from gdi.kit.problem import ProblemError
from token_broker.audit import Audit
from token_broker.db.store import BrokerDatabase, grants, nodes, orders, runs
from token_broker.db.upsert import upsert
from token_broker.events.events import Events
from token_broker.grants.grants import Grants
from token_broker.grants.parameters import hash_of
from token_broker.runs import late_parts
from token_broker.runs.admission import Admission
from token_broker.runs.order_rows import GOING_ON, as_order, as_status, values_of
from token_broker.runs.runs import Runs, as_run, need_open

STATE_OF_NODE = {  # what an analysis' end means for the node's part of the run
    "failed": "failed",
    "refused": "failed",
    "expired": "failed",
    "cancelled": "cancelled",
    "succeeded": "success",
}

CONSENT_ENDED = {  # what an order's end is told for, by the state of the run's grant
    "revoked": "the user took the consent back",
    "expired": "the consent has ended",
    "dead": "the identity provider ended the consent",
}


class Orders:
    """`on_news(node)` is called after the node's agent has something new to hear."""

    def __init__(
        self,
        store: BrokerDatabase,
        key: SigningKey,
        public_url: str,
        runs_: Runs,
        grants_: Grants,
        admission: Admission,
        events: Events,
        audit: Audit,
        on_news: Callable[[str], None] = lambda node: None,
    ) -> None:
        self._store, self._key, self._public_url = store, key, public_url
        self._runs, self._grants, self._admission, self._events, self._audit = runs_, grants_, admission, events, audit
        self.on_news = on_news

    async def put(self, run_id: str, node: str, kind: OrderKind, request: OrderRequest) -> OrderStatus:
        """The order, made where it is not there. 409 `order-differs`, `attempt-over`, `order-late`,
        `placement-differs`; 403 as at admission.
        """
        run = await self._runs.known(run_id)
        if kind != "close":
            need_open(run, request.attempt)
        item = next((p for p in run["plan"] if p["node"] == node), None)
        if item is None:
            raise ProblemError(
                403, "node-not-in-plan", f"Node {node} is no part of run {run_id}.", action="Name a node of the plan."
            )
        if item.get("placement") != "node":
            raise ProblemError(
                409,
                "placement-differs",
                f"Node {node} has no agent of its own: the coordinator starts its Snakemake.",
                action="Start a pod, or have the node enrolled with placement node.",
            )
        if kind != "close" and hash_of(request.parameters) != run["parameters_hash"]:
            raise ProblemError(
                409,
                "run-mismatch",
                f"The parameters are not those that run {run_id} was admitted with.",
                action="Send the run's own conf.",
            )
        body = _hash(request, item["datasets"])
        known = await self._rows(run_id, node, kind)
        same = next((row for row in known if row["attempt"] == request.attempt), None)
        if same is not None and same["body"] == body:
            return as_status(same)
        new = Order(request.attempt, body, secrets.token_hex(16), request.deadline)
        self._judged(lambda: order_table.put([as_order(row) for row in known], new, time.time()))
        token = await self._sign(run, item, kind, request, new.nonce)
        names = [release.name for release in request.releases]
        async with self._store.write() as c:
            await self._lock(c, run_id)
            rows = await self._locked_rows(c, run_id, node, kind)
            changed = self._judged(lambda: order_table.put([as_order(row) for row in rows], new, time.time()))
            for order in changed:
                fresh = order.attempt == request.attempt
                await self._write(c, run, node, kind, order, rows, token=token if fresh else None, names=names)
        if changed:
            await self._audit.record(
                "airflow", "order.put", owner=run["owner"], run=run_id, node=node, reason=f"{kind}, {request.attempt}"
            )
            self.on_news(node)
        return await self.get(run_id, node, kind, request.attempt)

    async def get(self, run_id: str, node: str, kind: str, attempt: int) -> OrderStatus:
        for row in await self._rows(run_id, node, kind):
            if row["attempt"] == attempt:
                return as_status(row)
        raise _unknown(run_id, node, kind)

    async def cancel(self, run_id: str, node: str, kind: OrderKind, attempt: int, why: str) -> OrderStatus:
        """Asks for the end of an order; one that waits is cancelled. Asking twice, or late, is no error."""
        run = await self._runs.known(run_id)
        await self._change(run, node, kind, attempt, lambda order, _: order_table.cancel(order, why))
        self.on_news(node)
        return await self.get(run_id, node, kind, attempt)

    async def take(self, run_id: str, node: str, kind: OrderKind, request: OrderTake) -> OrderStatus:
        """The node has it. 409 `order-over`, `order-nonce`, `order-taken`, `order-early`."""
        run = await self._runs.known(run_id)

        def taken(order: Order, earlier: list[Order]) -> Order:
            return order_table.take(order, earlier, request.nonce, time.time(), LEASE)

        await self._change(run, node, kind, request.attempt, taken)
        return await self.get(run_id, node, kind, request.attempt)

    async def report(self, run_id: str, node: str, kind: OrderKind, request: OrderReport) -> OrderStatus:
        """How it goes. 409 `order-fenced`, `order-over`, `order-step`."""
        run = await self._runs.known(run_id)

        def reported(order: Order, _: list[Order]) -> Order:
            return order_table.report(
                order, request.generation, request.state, request.reason or request.detail[:200], time.time(), LEASE
            )

        released = [one.model_dump(mode="json") for one in request.released]
        more = {"detail": request.detail, **({"released": released} if released else {})}
        await self._change(run, node, kind, request.attempt, reported, more, dataset=request.dataset)
        return await self.get(run_id, node, kind, request.attempt)

    async def need_release(self, run_id: str, node: str, name: str) -> None:
        """404 unless the node has a release of this name to bring."""
        for row in await self._rows(run_id, node, "release"):
            if row["state"] in ("taken", "running") and name in row["names"]:
                return
        raise _unknown(run_id, node, f"release of {name}")

    async def late_parts(self) -> LateParts:
        """The parts of closed runs that came late, or did not come."""
        async with self._store.read() as c:
            found = await late_parts.ended(c)
        return LateParts(parts=[LatePart(run=as_run(run), release=as_status(row)) for run, row in found])

    async def forget_late(self, run_id: str, node: str, attempt: int) -> None:
        """The part was used, or is not waited for any more. Twice is no error."""
        run = await self._runs.known(run_id)
        async with self._store.write() as c:
            left = await late_parts.forget(c, run_id, node, attempt)
            await self._runs.add_departures(c, run_id, left)
        await self._audit.record("airflow", "late.end", owner=run["owner"], run=run_id, node=node)

    async def sweep(self) -> None:
        """Ends what is past its deadline; asks for the end of what belongs to a run that is closed, or to a grant that
        is not in force any more.
        """
        now = time.time()
        late = sa.and_(orders.c.state.in_(GOING_ON), orders.c.deadline <= now)
        dead = sa.and_(
            orders.c.state.in_(GOING_ON),
            orders.c.cancelling == "",
            orders.c.kind != "close",
            sa.or_(
                sa.and_(runs.c.state == "closed", orders.c.late_until <= now),
                runs.c.attempt > orders.c.attempt,
                grants.c.state.in_(("revoked", "expired", "dead")),
            ),
        )
        of_run = orders.join(runs, runs.c.id == orders.c.run_id).join(grants, grants.c.id == runs.c.grant_id)
        async with self._store.read() as c:
            found = (
                await c.execute(
                    sa.select(orders, grants.c.state.label("consent"))
                    .select_from(of_run)
                    .where(sa.or_(late, dead))
                    .limit(200)
                )
            ).mappings()
            rows = found.all()
        for row in rows:
            run = await self._runs.known(row["run_id"])
            over, why = row["deadline"] <= now, CONSENT_ENDED.get(row["consent"], "the run is over")

            def ended(order: Order, _: list[Order], over: bool = over, why: str = why) -> Order:
                return order_table.tick(order, now) if over else order_table.cancel(order, why)

            await self._change(run, row["node"], row["kind"], row["attempt"], ended)
            self.on_news(row["node"])

    async def _sign(
        self, run: RowMapping, item: dict[str, Any], kind: OrderKind, request: OrderRequest, nonce: str
    ) -> str:
        visas: list[str] = []
        if kind != "close":
            grant = await self._grants.serving(run["grant_id"], run["id"])
            visas = await self._admission.visas(grant=grant["id"], user=run["owner"], datasets=item["datasets"])
        claims = OrderClaims(
            jti=nonce,
            sub=run["owner"],
            run=run["id"],
            attempt=request.attempt,
            node=item["node"],
            kind=kind,
            workflow=run["workflow"],
            digest=run["digest"],
            version=request.version,
            parameters=request.parameters,
            datasets=item["datasets"],
            visas=visas,
            approvals=request.approvals,
            releases=request.releases,
            deadline=request.deadline,
            trace=run["trace"] or "",
        )
        lifetime = request.deadline - time.time()
        return claims.sign(self._key, issuer=self._public_url, lifetime=lifetime, typ=ORDER_TYPE)

    async def _change(
        self,
        run: RowMapping,
        node: str,
        kind: str,
        attempt: int,
        step: Callable[[Order, list[Order]], Order],
        more: dict[str, Any] | None = None,
        *,
        dataset: str | None = None,
    ) -> None:
        async with self._store.write() as c:
            await self._lock(c, run["id"])
            rows = await self._locked_rows(c, run["id"], node, kind)
            row = next((r for r in rows if r["attempt"] == attempt), None)
            if row is None:
                raise _unknown(run["id"], node, kind)
            earlier = [as_order(r) for r in rows if r["attempt"] < attempt]
            order = as_order(row)
            after = self._judged(lambda: [step(order, earlier)])[0]
            if after != order:
                await self._write(c, run, node, kind, after, rows, more=more, dataset=dataset)

    async def _write(
        self,
        c: AsyncConnection,
        run: RowMapping,
        node: str,
        kind: str,
        order: Order,
        rows: list[RowMapping],
        *,
        token: str | None = None,
        names: Sequence[str] = (),
        more: dict[str, Any] | None = None,
        dataset: str | None = None,
    ) -> None:
        """The order as it is now, what its node has to hear, and the event, in one transaction."""
        before = next((row for row in rows if row["attempt"] == order.attempt), None)
        values = {**values_of(order), **(more or {}), "changed_at": time.time()}
        values["changes"] = 1 if before is None else before["changes"] + 1
        is_news = before is None or bool(order.cancelling) > bool(before["cancelling"]) or order.state == "expired"
        if is_news:
            values["news"] = await next_news(c, node)
        if order.over:
            values["token"] = ""  # it carries visas
        here = {"run_id": run["id"], "node": node, "kind": kind, "attempt": order.attempt}
        if before is None:
            fresh = {"detail": "", "released": [], "token": token, "names": list(names), **values}
            await c.execute(orders.insert().values(**{**here, **fresh}))
        else:
            await c.execute(orders.update().filter_by(**here).values(**values))
        if before is None or before["state"] != order.state or before["cancelling"] != order.cancelling:
            await self._tell(c, run, node, kind, order, values, dataset)

    async def _tell(
        self,
        c: AsyncConnection,
        run: RowMapping,
        node: str,
        kind: str,
        order: Order,
        values: dict[str, Any],
        dataset: str | None,
    ) -> None:
        source, detail = f"order-{node}-{kind}"[:63], str(values.get("detail") or "")
        message = ": ".join(text for text in (order.reason or order.cancelling, detail) if text)[:2000]
        now, seq = time.time(), 2 * int(values["changes"])
        event = Event(seq=seq, time=now, kind="order", order=kind, order_state=order.state, message=message or None)
        await self._events.tell(c, run, node, source, event)
        if kind != "analyse" or order.state not in STATE_OF_NODE:
            return
        sentences = {
            "refused": f"the node refused: {message}",
            "expired": "the node did not answer by the deadline",
        }
        state: Any = STATE_OF_NODE[order.state]  # of the Literal
        end = Event(
            seq=seq + 1,
            time=now,
            kind="node",
            state=state,
            message=sentences.get(order.state, detail or None),
            dataset=dataset,
        )
        await self._events.tell(c, run, node, source, end)

    async def _rows(self, run: str, node: str, kind: str) -> list[RowMapping]:
        async with self._store.read() as c:
            return await self._locked_rows(c, run, node, kind)

    @staticmethod
    async def _locked_rows(c: AsyncConnection, run: str, node: str, kind: str) -> list[RowMapping]:
        query = sa.select(orders).filter_by(run_id=run, node=node, kind=kind).order_by(orders.c.attempt)
        return list((await c.execute(query)).mappings())

    @staticmethod
    async def _lock(c: AsyncConnection, run: str) -> None:
        await c.execute(sa.select(runs.c.id).where(runs.c.id == run).with_for_update())

    @staticmethod
    def _judged(step: Callable[[], list[Order]]) -> list[Order]:
        try:
            return step()
        except OrderConflict as error:
            raise conflict(error) from None


async def next_news(c: AsyncConnection, node: str) -> int:
    """The number of the next thing that the node's agent has to hear; its row is locked until the transaction ends."""
    await upsert(c, nodes, [{"node": node, "news": 0}], keep=("node",))
    await c.execute(nodes.update().where(nodes.c.node == node).values(news=nodes.c.news + 1))
    return int((await c.execute(sa.select(nodes.c.news).where(nodes.c.node == node))).scalar_one())


def conflict(error: OrderConflict) -> ProblemError:
    """409; `conflict` says which of the table's."""
    action = "Look at the order: it is as the answer says."
    return ProblemError(409, "order-conflict", f"{error}", action=action, conflict=error.slug)


def _hash(request: OrderRequest, datasets: list[str]) -> str:
    """Of what makes the order; reviewers' signatures may come later and change nothing."""
    order = request.model_dump(mode="json", exclude={"approvals"})
    return sha256_hex(canonical_json({**order, "datasets": sorted(datasets)}))


def _unknown(run: str, node: str, kind: str) -> ProblemError:
    return ProblemError(
        404, "order-unknown", f"Run {run} has no order {kind} for {node}.", action="Put the order first."
    )
