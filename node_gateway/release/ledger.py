"""What left this node before: compared with, so that releases cannot be subtracted from each other, of whatever kinds.
Each kind names its cells (`gdi.releases.kind.Cell`) in the words of `gdi.releases.disclosure.vocabulary`.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from gdi.kit.database import insert
from gdi.releases.disclosure import vocabulary
from gdi.releases.disclosure.past import Past
from gdi.releases.kind import Cell
from node_gateway.db import store as db
from node_gateway.epochs import store
from node_gateway.review.cases import AT_NODE

BATCH = 1000  # units or keys that are looked up, or cells that are written, at once
FEW = 20


def spoken_with(kind: str) -> tuple[str, ...]:
    """The kinds whose numbers are compared with this one's."""
    return vocabulary.KINDS if kind in vocabulary.KINDS else (kind,)


def set_name(datasets: Iterable[str]) -> str:
    """What `dataset_sets.names` has for this set of datasets."""
    return json.dumps(sorted(set(datasets)), separators=(",", ":"))


async def datasets_id(connection: AsyncConnection, datasets: Iterable[str]) -> int:
    """The number of this set of datasets, given to it when it is first seen."""
    names = set_name(datasets)
    await connection.execute(insert(connection, db.dataset_sets).values(names=names).on_conflict_do_nothing())
    return int(
        (await connection.execute(sa.select(db.dataset_sets.c.id).where(db.dataset_sets.c.names == names))).scalar_one()
    )


async def cohorts(connection: AsyncConnection, names: Iterable[str]) -> Past:
    """The cohorts that something left of and that share people with this one, or with one that does. `names` are the
    ledger's (`node_gateway.epochs.store.cohort_names`). A dataset without epochs counts as one of its own people.
    """
    mine = sorted(set(names))
    rows = await connection.execute(sa.select(db.dataset_sets))
    sets: dict[int, list[str]] = {row.id: json.loads(row.names) for row in rows}
    lists = await store.people(connection, {name for of in (mine, *sets.values()) for name in of})

    def people(of: Iterable[str]) -> frozenset[str]:
        return frozenset[str]().union(*(lists.get(name, {f"dataset {name}"}) for name in of))

    own, found = people(mine), {number: people(of) for number, of in sets.items()}
    near, more = set(own), True
    while more:
        linked = [cohort for cohort in found.values() if cohort & near and not cohort <= near]
        near.update(*linked)
        more = bool(linked)
    found = {number: cohort for number, cohort in found.items() if cohort & near}
    number = next((number for number in found if sets[number] == mine), None)
    listed = all(name in lists for of in (mine, *(sets[n] for n in found)) for name in of)
    return Past(own, number, found, listed=listed)


async def with_cells(connection: AsyncConnection, past: Past, kind: str, keys: Sequence[str]) -> Past:
    """The same cohorts, with all that left of them of these keys' topics, in whatever kind of release. Of a cohort's
    numbers the first that left count. What waits for a person, or was refused, never left: it answers nobody.
    """
    found: dict[str, dict[int, tuple[int, ...]]] = {}
    if not past.cohorts:
        return past
    c, sets = db.ledger_cells.c, list(past.cohorts)
    topics = list(dict.fromkeys(vocabulary.topic(kind, key) for key in keys))
    spoken: dict[str, set[str]] = {}
    unpublished = sa.select(db.releases.c.number).where(db.releases.c.state != "published")
    # Few sets are sought in the index, each for each key; of many, a key's rows are read and compared.
    related_sets = (c.datasets if len(sets) <= FEW else c.datasets + 0).in_(sets)
    known = c.kind.in_(spoken_with(kind))
    for start in range(0, len(topics), BATCH):
        named = c.topic.in_(topics[start : start + BATCH])
        which = named, known, related_sets, c.release.not_in(unpublished)
        query = sa.select(c.topic, c.key, c.datasets, c.numbers).where(*which)
        async for row in await connection.stream(query.order_by(c.release.desc())):
            found.setdefault(row.key, {})[row.datasets] = tuple(int(n) for n in row.numbers.split(","))
            spoken.setdefault(row.topic, set()).add(row.key)
    return replace(past, cells=found, topics=spoken)


async def any_cells(connection: AsyncConnection, past: Past, kind: str) -> bool:
    """Whether the table has any cell of these cohorts; cells of releases in columns lie beside them."""
    c = db.ledger_cells.c
    query = sa.select(sa.literal(1)).where(c.kind.in_(spoken_with(kind)), c.datasets.in_(past.cohorts)).limit(1)
    return (await connection.execute(query)).first() is not None


async def left_since(connection: AsyncConnection, names: Iterable[str], release: sa.Row[Any]) -> bool:
    """Whether anything but the very same bytes left of these people, or of some of them, since it was checked."""
    past, r, v = await cohorts(connection, names), db.releases.c, db.reviews.c
    later = sa.or_(r.number > release.number, v.decided_at > release.time)
    query = sa.select(r.answer).outerjoin(db.reviews, v.release == r.number).where(r.state == "published", later)
    answers = (await connection.execute(query)).scalars().all()
    rows = await connection.execute(sa.select(db.dataset_sets).where(db.dataset_sets.c.id.in_(past.cohorts)))
    linked = {frozenset(json.loads(row.names)) for row in rows}
    same = release.answer.get("kind"), release.answer["sha256"]
    return any(
        frozenset(answer.get(AT_NODE, {}).get("cohort", ())) in linked
        and (answer.get("kind"), answer.get("sha256")) != same
        for answer in answers
    )


def packed(cells: Iterable[Cell]) -> bytes:
    """Cells of a release that waits, as they are kept beside it: JSON lines, gzip."""
    lines = (json.dumps([cell.key, list(cell.numbers)], separators=(",", ":")) for cell in cells)
    return gzip.compress("\n".join(lines).encode(), compresslevel=3)


def unpacked(data: bytes) -> list[Cell]:
    """ValueError where these are no packed cells."""
    rows = (json.loads(line) for line in gzip.decompress(data).decode().splitlines())
    return [Cell(str(key), tuple(int(n) for n in numbers)) for key, numbers in rows]


async def write(connection: AsyncConnection, datasets: int, kind: str, cells: Iterable[Cell], release: int) -> None:
    """Remembers the cells; numbers that left before are kept once. ValueError where the kind's keys or numbers are too
    long: then nothing may leave.
    """
    values: list[dict[str, str | int]] = []
    for cell in cells:
        numbers = ",".join(str(n) for n in cell.numbers)
        if not cell.key.isascii() or len(cell.key) > db.MAX_KEY or not 0 < len(numbers) <= db.MAX_NUMBERS:
            raise ValueError(f"the kind {kind} names a cell that the ledger cannot hold")
        about = {"topic": vocabulary.topic(kind, cell.key), "kind": vocabulary.words(kind, cell.key)}
        row: dict[str, str | int] = {**about, "key": cell.key, "datasets": datasets}
        values.append({**row, "numbers": numbers, "release": release})
        if len(values) == BATCH:
            await connection.execute(insert(connection, db.ledger_cells).on_conflict_do_nothing(), values)
            values = []
    if values:
        await connection.execute(insert(connection, db.ledger_cells).on_conflict_do_nothing(), values)
