"""Rows that are inserted, or merged with those there, in one statement on SQLite and PostgreSQL."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from gdi.kit.database import insert


async def upsert(
    c: AsyncConnection,
    table: sa.Table,
    rows: Sequence[dict[str, Any]],
    *,
    replace: Sequence[str] = (),
    keep: Sequence[str] = (),
    newer: Sequence[str] = (),
    renew: tuple[str, sa.ColumnElement[bool]] | None = None,
) -> None:
    """Inserts rows (all with the same columns, no key twice) or updates those there: `replace` takes the new value,
    `keep` the old one where there is one,

    `newer` the new one where there is one, `renew` (a column, a condition on the row there) the new one where that
    holds. An empty text counts as none.
    """
    if not rows:
        return
    statement = insert(c, table)
    update: dict[str, Any] = {name: statement.excluded[name] for name in replace}
    for name in (*keep, *newer):
        old, new = table.c[name], statement.excluded[name]
        first, second = (old, new) if name in keep else (new, old)
        text = isinstance(table.c[name].type, sa.String)
        update[name] = sa.func.coalesce(sa.func.nullif(first, "") if text else first, second)
    if renew is not None:
        update[renew[0]] = sa.case((renew[1], statement.excluded[renew[0]]), else_=update[renew[0]])
    await c.execute(
        statement.on_conflict_do_update(index_elements=list(table.primary_key.columns), set_=update), list(rows)
    )
