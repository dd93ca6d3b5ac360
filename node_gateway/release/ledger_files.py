"""The ledger's cells of releases in columns: a Parquet file beside each release, named by its own SHA-256, which is in
the release's row. What cannot be read is never taken for nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from gdi.kit.problem import ProblemError
from gdi.releases import columns
from gdi.releases.disclosure.past import Past
from node_gateway.db import store as db
from node_gateway.release import ledger
from node_gateway.review.cases import AT_NODE
from node_gateway.workspace.bucket import Bucket

SUFFIX = ".cells.parquet"  # after the key of the release and the SHA-256
MOST_BYTES = 64 * 1024**3
CELLS = "cells"  # in what the release's row has for the node alone: the file's SHA-256


async def keep(area: Bucket, key: str, file: Path) -> str:
    """Keeps the cells of the release of that key; their SHA-256. They count from when it is published. Another release
    of the run may publish the same bytes and have other cells, such as of alleles that neither lists.
    """
    digest = await asyncio.to_thread(columns.sha256_of, file)
    with file.open("rb") as opened:
        await area.upload(_place(key, digest), opened, columns.MEDIA_TYPE)
    return digest


def _place(key: str, digest: str) -> str:
    return f"{key}.{digest}{SUFFIX}"


async def fetch(
    connection: AsyncConnection, area: Bucket, past: Past, kind: str, folder: Path
) -> Mapping[int, Sequence[Path]]:
    """The files of what left of these cohorts in releases that speak of the same, by number, the oldest first, in
    `folder`. ProblemError 503 `ledger-incomplete`.
    """
    rows = await connection.execute(sa.select(db.dataset_sets).where(db.dataset_sets.c.id.in_(past.cohorts)))
    numbers = {row.names: int(row.id) for row in rows}
    c, spoken = db.releases.c, ledger.spoken_with(kind)
    query = sa.select(c.number, c.key, c.answer).where(c.state == "published").order_by(c.number)
    found: dict[int, list[Path]] = {}
    async for row in await connection.stream(query):
        at_node = row.answer.get(AT_NODE, {})
        names = ledger.set_name(at_node.get("cohort", []))
        if CELLS in at_node and row.answer.get("kind") in spoken and names in numbers:
            file = folder / f"past-{row.number}"
            await _download(area, row, at_node, file)
            found.setdefault(numbers[names], []).append(file)
    return found


async def _download(area: Bucket, row: sa.Row[Any], at_node: Mapping[str, Any], file: Path) -> None:
    try:
        with file.open("wb") as opened:
            await area.download(_place(row.key, at_node[CELLS]), opened, MOST_BYTES)
    except ProblemError as error:
        if error.problem.status != 404:
            raise
        raise _incomplete(int(row.number)) from None
    if await asyncio.to_thread(columns.sha256_of, file) != at_node[CELLS]:
        raise _incomplete(int(row.number))


def _incomplete(release: int) -> ProblemError:
    return ProblemError(
        503,
        "ledger-incomplete",
        f"What left with release {release} cannot be read as it was written: nothing else of these people may leave.",
        action="Tell the node's operator: the release area's file of it must be restored.",
    )
