"""Which files of a run's workspace its tasks declared as outputs: no others are told outside, and a folder is one entry
whatever lies in it (docs/disclosure.md, 5). Names inside a folder are chosen by what saw the data.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

import sqlalchemy as sa

from node_gateway.db import store as db
from node_gateway.workspace.bucket import PAGE, Bucket, StoredObject, key_of

RUNS = 64  # whose outputs are kept in memory
LAST = "\U0010fffd"  # behind every name in a folder


class Shape(NamedTuple):
    """The entry that stands for a file: itself, or the outermost declared folder that it lies in."""

    path: str
    folder: bool


@dataclass
class DeclaredOutputs:
    """Of one run: `files` and `folders` by their paths, from its tasks up to number `last`."""

    files: set[str] = field(default_factory=set)
    folders: set[str] = field(default_factory=set)
    last: int = 0

    def add(self, outputs: Iterable[str]) -> None:
        for path in outputs:
            (self.folders if path.endswith("/") else self.files).add(path.rstrip("/"))

    def shape_of(self, path: str) -> Shape | None:
        """What stands for this path; None where no task declared it."""
        place = path.find("/")
        while place > 0:
            if path[:place] in self.folders:
                return Shape(path[:place], True)
            place = path.find("/", place + 1)
        if path in self.folders:
            return Shape(path, True)
        return Shape(path, False) if path in self.files else None


class DeclaredFiles:
    """The outputs that a run's tasks declared, read from the gateway's own records; what is new of them each time."""

    def __init__(self, database: db.GatewayDatabase) -> None:
        self._database = database
        self._runs: OrderedDict[str, DeclaredOutputs] = OrderedDict()

    async def of(self, run: str) -> DeclaredOutputs:
        known = self._runs.setdefault(run, DeclaredOutputs())
        self._runs.move_to_end(run)
        while len(self._runs) > RUNS:
            self._runs.popitem(last=False)
        t = db.tasks.c
        query = sa.select(t.number, t.outputs).where(t.run == run, t.number > known.last).order_by(t.number)
        async with self._database.read() as connection:
            async for number, outputs in await connection.stream(query):
                known.add(outputs)
                known.last = number
        return known


class Entry(NamedTuple):
    """An entry of a listing: `path` below the run; the size of a folder is 0."""

    path: str
    size: int
    mtime: float
    folder: bool


async def page(
    bucket: Bucket, run: str, declared: DeclaredOutputs, prefix: str, token: str, size: int
) -> tuple[list[Entry], str]:
    """As `Bucket.page`, of what is declared: as many entries as were asked for, so that neither their number nor the
    token tells what lies in a folder. ValueError for a token that is not one of ours.
    """
    found: dict[str, Entry] = {}
    top = declared.shape_of(prefix.rstrip("/"))
    if top is not None and top.folder and not f"{top.path}/".startswith(prefix):
        return [], ""  # inside a folder: nothing is told of what begins so
    if (
        token
        and (shape := declared.shape_of(key_of(token, f"{run}/{prefix}").removeprefix(f"{run}/")))
        and shape.folder
    ):
        token = bucket.token(_after(run, shape))  # nor of what comes behind a name there
    while True:
        files, following = await bucket.page(f"{run}/{prefix}", token, PAGE)
        for file in files:
            entry = _entry(file, run, declared)
            if entry is None or entry.path in found:
                continue
            if len(found) == size:
                return list(found.values()), bucket.token(_after(run, list(found.values())[-1]))
            found[entry.path] = entry
        if not following or not files:
            return list(found.values()), ""
        last = _entry(files[-1], run, declared)
        token = bucket.token(_after(run, last)) if last is not None and last.folder else following


def _entry(file: StoredObject, run: str, declared: DeclaredOutputs) -> Entry | None:
    shape = declared.shape_of(file.key.removeprefix(f"{run}/"))
    if shape is None:
        return None
    return Entry(shape.path, 0 if shape.folder else file.size, file.mtime, shape.folder)


def _after(run: str, entry: Entry | Shape) -> str:
    return f"{run}/{entry.path}" + (f"/{LAST}" if entry.folder else "")
