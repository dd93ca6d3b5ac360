"""Orders as the database keeps them."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from sqlalchemy import RowMapping
from sqlalchemy.ext.asyncio import AsyncConnection

from gdi.contracts.order_table import Order
from gdi.contracts.orders import OrderStatus
from token_broker.db.store import orders

GOING_ON = ("waiting", "taken", "running")


def as_order(row: RowMapping) -> Order:
    return Order(**{name: row[name] for name in Order.__dataclass_fields__})


def values_of(order: Order) -> dict[str, Any]:
    return {name: getattr(order, name) for name in Order.__dataclass_fields__}


def as_status(row: RowMapping) -> OrderStatus:
    return OrderStatus(
        run=row["run_id"],
        **{n: row[n] for n in OrderStatus.model_fields if n != "run"},
    )


async def of_attempt(c: AsyncConnection, run: RowMapping) -> list[OrderStatus]:
    """The orders of the run's attempt."""
    query = sa.select(orders).filter_by(run_id=run["id"], attempt=run["attempt"]).order_by(orders.c.node, orders.c.kind)
    return [as_status(row) for row in (await c.execute(query)).mappings()]
