"""What left this node before: compared with, so that two releases cannot be subtracted from each other. Each kind of
release names its own cells (`gdi.releases.kind.Cell`).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from gdi.kit.database import insert
from gdi.releases.kind import Cell
from node_gateway.db import store as db

BATCH = 1000  # units or keys that are looked up, or cells that are written, at once
FEW = 20


async def datasets_id(connection: AsyncConnection, datasets: Iterable[str]) -> int:
    """The number of this set of datasets, given to it when it is first seen."""
    names = json.dumps(sorted(set(datasets)), separators=(",", ":"))
    await connection.execute(insert(connection, db.dataset_sets).values(names=names).on_conflict_do_nothing())
    return int(
        (await connection.execute(sa.select(db.dataset_sets.c.id).where(db.dataset_sets.c.names == names))).scalar_one()
    )


async def related(connection: AsyncConnection, datasets: Iterable[str]) -> list[int]:
    """The numbers of all sets that share a dataset with this one, itself included."""
    own = set(datasets)
    rows = await connection.execute(sa.select(db.dataset_sets))
    return [row.id for row in rows if own & set(json.loads(row.names))]


async def before(
    connection: AsyncConnection, sets: list[int], kind: str, keys: Sequence[str]
) -> dict[str, list[tuple[int, ...]]]:
    """What left before by these keys: each time its numbers."""
    found: dict[str, list[tuple[int, ...]]] = {}
    if not sets:
        return found
    c = db.ledger_cells.c
    # Few sets are sought in the index, each for each key; of many, a key's rows are read and compared.
    related_sets = (c.datasets if len(sets) <= FEW else c.datasets + 0).in_(sets)
    for start in range(0, len(keys), BATCH):
        named = c.key.in_(keys[start : start + BATCH])
        query = sa.select(c.key, c.numbers).where(c.kind == kind, named, related_sets)
        async for row in await connection.stream(query):
            found.setdefault(row.key, []).append(tuple(int(n) for n in row.numbers.split(",")))
    return found


async def write(connection: AsyncConnection, datasets: int, kind: str, cells: Iterable[Cell], release: int) -> None:
    """Remembers the cells; numbers that left before are kept once. ValueError where the kind's keys or numbers are too
    long: then nothing may leave.
    """
    values: list[dict[str, str | int]] = []
    for cell in cells:
        numbers = ",".join(str(n) for n in cell.numbers)
        if not cell.key.isascii() or len(cell.key) > db.MAX_KEY or not 0 < len(numbers) <= db.MAX_NUMBERS:
            raise ValueError(f"the kind {kind} names a cell that the ledger cannot hold")
        row: dict[str, str | int] = {"kind": kind, "key": cell.key, "datasets": datasets}
        values.append({**row, "numbers": numbers, "release": release})
        if len(values) == BATCH:
            await connection.execute(insert(connection, db.ledger_cells).on_conflict_do_nothing(), values)
            values = []
    if values:
        await connection.execute(insert(connection, db.ledger_cells).on_conflict_do_nothing(), values)
