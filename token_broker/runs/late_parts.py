"""Parts of a run that come after its close: their orders go on until their own deadline, and for that node the run is
open as long as they do (decision 852).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import sqlalchemy as sa
from sqlalchemy import RowMapping
from sqlalchemy.ext.asyncio import AsyncConnection

from gdi.contracts.committees import CommitteeStop, Departure
from gdi.contracts.orders import ENDED_ORDER
from token_broker.db.store import orders, runs
from token_broker.runs.order_rows import GOING_ON

PAGE = 100


async def keep(c: AsyncConnection, run: str, attempt: int, nodes: Sequence[str]) -> None:
    """These nodes' orders of the attempt outlive its close, in the transaction that closes it."""
    mine = sa.and_(orders.c.run_id == run, orders.c.attempt == attempt, orders.c.node.in_(list(nodes)))
    going_on = sa.and_(
        orders.c.kind.in_(("analyse", "release")), orders.c.state.in_(GOING_ON), orders.c.cancelling == ""
    )
    await c.execute(orders.update().where(mine, going_on).values(late_until=orders.c.deadline))


async def is_late(c: AsyncConnection, run: RowMapping, node: str) -> bool:
    """Whether the node still works on a part of this closed run."""
    mine = sa.and_(orders.c.run_id == run["id"], orders.c.attempt == run["attempt"], orders.c.node == node)
    late = sa.and_(orders.c.late_until > time.time(), orders.c.state.in_(GOING_ON), orders.c.cancelling == "")
    return (await c.execute(sa.select(orders.c.node).where(mine, late).limit(1))).first() is not None


async def ended(c: AsyncConnection) -> list[tuple[RowMapping, RowMapping]]:
    """Orders `release` of late nodes that are over, each with its run; those of attempts that were opened anew left
    out.
    """
    query = (
        sa.select(orders)
        .select_from(orders.join(runs, runs.c.id == orders.c.run_id))
        .where(
            orders.c.late_until > 0,
            orders.c.kind == "release",
            orders.c.state.in_(ENDED_ORDER),
            runs.c.state == "closed",
            runs.c.attempt == orders.c.attempt,
        )
        .order_by(orders.c.changed_at)
        .limit(PAGE)
    )
    rows = (await c.execute(query)).mappings().all()
    names = {row["run_id"] for row in rows}
    found = {row["id"]: row for row in (await c.execute(sa.select(runs).where(runs.c.id.in_(names)))).mappings()}
    return [(found[row["run_id"]], row) for row in rows]


async def of_stop(c: AsyncConnection, stop: CommitteeStop, covers: Callable[[str], bool]) -> set[tuple[str, str, int]]:
    """Run, node and attempt of what is waited for of this run or person, where the committee covers a dataset."""
    chosen = runs.c.id == stop.run if stop.run else runs.c.owner == stop.person
    query = sa.select(orders.c.run_id, orders.c.node, orders.c.attempt, runs.c.datasets)
    query = query.select_from(orders.join(runs, runs.c.id == orders.c.run_id)).where(chosen, orders.c.late_until > 0)
    found = (await c.execute(query)).all()
    return {(run, node, attempt) for run, node, attempt, datasets in found if any(map(covers, datasets))}


async def forget(c: AsyncConnection, run: str, node: str, attempt: int) -> list[Departure]:
    """Nothing more is waited for. What left the node meanwhile."""
    mine = sa.and_(orders.c.run_id == run, orders.c.node == node, orders.c.attempt <= attempt)
    late = sa.and_(mine, orders.c.kind == "release", orders.c.state == "succeeded", orders.c.late_until > 0)
    lists = (await c.execute(sa.select(orders.c.released).where(late))).scalars().all()
    await c.execute(orders.update().where(mine).values(late_until=0))
    return [
        Departure(
            node=node,
            name=one["name"],
            kind=one.get("kind") or "",
            sha256=one["sha256"],
            count=one["sites_released"],
            bytes=one["bytes"],
        )
        for released in lists
        for one in released
    ]
