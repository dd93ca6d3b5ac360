"""What left this node before: compared with, so that two releases cannot be subtracted from each other."""

from __future__ import annotations

import json
from collections.abc import Iterable

import sqlalchemy as sa
from sqlalchemy.dialects.sqlite import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from node_gateway import database as db
from node_gateway.release.allele_counts import told
from node_gateway.release.table import Site

BATCH = 1000


async def datasets_id(connection: AsyncConnection, datasets: Iterable[str]) -> int:
    """The number of this set of datasets, given to it when it is first seen."""
    names = json.dumps(sorted(set(datasets)), separators=(",", ":"))
    await connection.execute(insert(db.dataset_sets).values(names=names).on_conflict_do_nothing())
    return int(
        (await connection.execute(sa.select(db.dataset_sets.c.id).where(db.dataset_sets.c.names == names))).scalar_one()
    )


async def related(connection: AsyncConnection, datasets: Iterable[str]) -> list[int]:
    """The numbers of all sets that share a dataset with this one, itself included."""
    own = set(datasets)
    rows = await connection.execute(sa.select(db.dataset_sets))
    return [row.id for row in rows if own & set(json.loads(row.names))]


async def before(
    connection: AsyncConnection, sets: list[int], sites: list[Site]
) -> dict[tuple[str, int, str, str], list[tuple[int, ...]]]:
    """What left before of these sites (sorted, of one batch), by allele."""
    found: dict[tuple[str, int, str, str], list[tuple[int, ...]]] = {}
    if not sets or not sites:
        return found
    bounds: dict[str, tuple[int, int]] = {}
    for chrom, pos, _ in (s.place for s in sites):
        low, high = bounds.get(chrom, (pos, pos))
        bounds[chrom] = (min(low, pos), max(high, pos))
    wanted = {s.place for s in sites}
    c = db.ledger.c
    for chrom, (low, high) in bounds.items():
        query = sa.select(c.chrom, c.pos, c.ref, c.alt, c.numbers).where(
            c.datasets.in_(sets), c.chrom == chrom, c.pos.between(low, high)
        )
        rows = await connection.stream(query)
        async for row in rows:
            if (row.chrom, row.pos, row.ref) in wanted:
                found.setdefault((row.chrom, row.pos, row.ref, row.alt), []).append(
                    tuple(int(n) for n in row.numbers.split(","))
                )
    return found


async def write(connection: AsyncConnection, datasets: int, sites: list[Site], release: int) -> None:
    """Remembers the sites; numbers that left before are kept once."""
    for start in range(0, len(sites), BATCH):
        values = [
            {
                "datasets": datasets,
                "chrom": row.chrom,
                "pos": row.pos,
                "ref": row.ref,
                "alt": row.alt,
                "numbers": ",".join(str(n) for n in told(row, site)),
                "release": release,
            }
            for site in sites[start : start + BATCH]
            for row in site.rows
        ]
        if values:
            await connection.execute(insert(db.ledger).on_conflict_do_nothing(), values)
