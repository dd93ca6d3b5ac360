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

BATCH = 1000  # units that are looked up, or cells that are written, at once
VARIANTS = "allele-counts"  # the table's columns are this kind's; the keys of all others lie in `alt`


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
    """What left before by these keys (sorted, of one batch)."""
    found: dict[str, list[tuple[int, ...]]] = {}
    if not sets or not keys:
        return found
    places = {_place(kind, key): key for key in keys}
    bounds: dict[str, tuple[int, int]] = {}
    for chrom, pos, _, _ in places:
        low, high = bounds.get(chrom, (pos, pos))
        bounds[chrom] = (min(low, pos), max(high, pos))
    c = db.ledger.c
    for chrom, (low, high) in bounds.items():
        query = sa.select(c.chrom, c.pos, c.ref, c.alt, c.numbers).where(
            c.datasets.in_(sets), c.chrom == chrom, c.pos.between(low, high)
        )
        rows = await connection.stream(query)
        async for row in rows:
            if (key := places.get((row.chrom, row.pos, row.ref, row.alt))) is not None:
                found.setdefault(key, []).append(tuple(int(n) for n in row.numbers.split(",")))
    return found


async def write(connection: AsyncConnection, datasets: int, kind: str, cells: Iterable[Cell], release: int) -> None:
    """Remembers the cells; numbers that left before are kept once."""
    values: list[dict[str, str | int]] = []
    for cell in cells:
        chrom, pos, ref, alt = _place(kind, cell.key)
        numbers = ",".join(str(n) for n in cell.numbers)
        place: dict[str, str | int] = {"chrom": chrom, "pos": pos, "ref": ref, "alt": alt}
        values.append({"datasets": datasets, **place, "numbers": numbers, "release": release})
        if len(values) == BATCH:
            await connection.execute(insert(connection, db.ledger).on_conflict_do_nothing(), values)
            values = []
    if values:
        await connection.execute(insert(connection, db.ledger).on_conflict_do_nothing(), values)


def _place(kind: str, key: str) -> tuple[str, int, str, str]:
    if kind != VARIANTS:
        return "", 0, kind, key
    chrom, pos, ref, alt = key.split(":", 3)
    return chrom, int(pos), ref, alt
