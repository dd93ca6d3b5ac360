"""Which content a dataset's files had when they were read: a file that changes under its dataset's id has other
people's numbers, and what was told of it before may be subtracted. Within an epoch each file has one content, or
nothing of the dataset leaves.
"""

from __future__ import annotations

import hashlib

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from gdi.kit.database import insert
from gdi.kit.problem import ProblemError
from node_gateway.db import store as db
from node_gateway.db.store import GatewayDatabase
from node_gateway.listed_files import Listed

MOST_KNOWN = 100_000  # contents that are remembered in this process


class FileContents:
    """`note` is asked at each read; most contents are known, and are remembered in this process."""

    def __init__(self, database: GatewayDatabase) -> None:
        self._database = database
        self._known: set[tuple[str, str, str, int]] = set()

    async def note(self, dataset: str, listed: Listed) -> None:
        """Remembers what the file is now: its checksum, or its size where the archive says no checksum."""
        content = listed.checksum[:64] or f"{listed.size} bytes"
        async with self._database.read() as connection:
            epoch = await newest(connection, dataset)
        row = (dataset, listed.path, content, epoch)
        if row in self._known:
            return
        values = {
            "dataset": dataset,
            "path": hashlib.sha256(listed.path.encode()).hexdigest(),
            "content": content,
            "epoch": epoch,
        }
        async with self._database.write() as connection:
            await connection.execute(insert(connection, db.file_contents).values(**values).on_conflict_do_nothing())
        if len(self._known) >= MOST_KNOWN:
            self._known.clear()
        self._known.add(row)


async def newest(connection: AsyncConnection, dataset: str) -> int:
    """The number of the dataset's newest epoch; 0 where it has none."""
    c = db.epochs.c
    query = sa.select(sa.func.max(c.number)).where(c.dataset == dataset)
    return int((await connection.execute(query)).scalar_one() or 0)


async def expect_one(connection: AsyncConnection, dataset: str, epoch: int) -> None:
    """ProblemError 403 `changed-files` where a file of the dataset had two contents since that epoch opened, or was
    read only after the next one did: which content it had before is not known.
    """
    c = db.file_contents.c
    query = sa.select(c.path).where(c.dataset == dataset, c.epoch >= epoch).group_by(c.path)
    unlike = sa.or_(sa.func.count(c.content.distinct()) > 1, sa.func.min(c.epoch) > epoch)
    changed = (await connection.execute(query.having(unlike).limit(1))).first()
    if changed is not None:
        raise ProblemError(
            403,
            "changed-files",
            f"A file of {dataset} changed under its id since this epoch opened, or was first read after the next one"
            " did, so that other people may be counted.",
            action="Ask for the newest epoch; or ask the node's operator to open a new one, or to serve the data under"
            " a new dataset id.",
        )
