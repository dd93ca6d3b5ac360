"""Epochs in the gateway's database, and the cohorts that they give to the ledger.

A dataset's first epoch has the dataset's own name in the ledger, so that what left before epochs were opened is of the
same people; the following ones are `DATASET@2` and so on, a part of one `DATASET@2/sex=female`.
"""

from __future__ import annotations

import json
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from gdi.contracts.cohorts import EpochCohorts
from gdi.contracts.descriptor import MAX_LEVEL, GenotypeFilter
from gdi.kit.database import insert
from node_gateway.db import store as db
from node_gateway.epochs.admission import OpenEpoch, cohort_name
from node_gateway.review.cases import AT_NODE

BATCH = 1000


@dataclass(frozen=True)
class Epoch:
    """One frozen version of a dataset: `number` from 1, how many `people`, when it was opened (seconds, UTC), the
    levels of its splits, its variable sets and tables by name, and which genotypes count.
    """

    dataset: str
    number: int
    people: int
    opened_at: float
    splits: Mapping[str, Sequence[str]] = field(default_factory=dict)
    variables: Sequence[str] = ()
    tables: Sequence[str] = ()
    filter: Mapping[str, Any] | None = None

    @property
    def genotypes(self) -> GenotypeFilter | None:
        """Which genotypes count; all where it is None."""
        return None if self.filter is None else GenotypeFilter.model_validate(self.filter)

    @property
    def name(self) -> str:
        """What the ledger calls its whole."""
        return cohort_name(self.dataset, self.number)

    @property
    def parts(self) -> list[str]:
        """What the ledger calls its parts, without the epoch's name."""
        levels = [f"{column}={level}" for column, levels in self.splits.items() for level in levels]
        return levels + [f"variables:{n}" for n in self.variables] + [f"table:{n}" for n in self.tables]

    @property
    def cohorts(self) -> EpochCohorts:
        """What a run may name of it: of a split all levels or, where one has no name that a run can say, none."""
        splits = {
            name: tuple(levels)
            for name, levels in self.splits.items()
            if all(len(level) <= MAX_LEVEL for level in levels)
        }
        return EpochCohorts(
            number=self.number,
            splits=splits,
            variables=tuple(self.variables),
            tables=tuple(self.tables),
            filter=self.genotypes,
        )

    @property
    def facts(self) -> OpenEpoch:
        """What of it an admission may depend on."""
        names = (frozenset(self.variables), frozenset(self.tables))
        return OpenEpoch(self.dataset, self.number, self.splits, *names, filtered=self.filter is not None)


async def left_without_epoch(connection: AsyncConnection, dataset: str) -> bool:
    """Whether anything left of the dataset, alone or with others, under its plain name: by the ledger's table, or in
    columns, whose cells are in no table.
    """
    cells, name = db.ledger_cells.c, cohort_name(dataset, 1)
    there = sa.select(cells.datasets).where(cells.datasets == db.dataset_sets.c.id).limit(1)
    query = sa.select(db.dataset_sets.c.names).where(there.exists())
    if any(name in json.loads(names) for names in (await connection.execute(query)).scalars()):
        return True
    published = sa.select(db.releases.c.answer).where(db.releases.c.state == "published")
    async for answer in await connection.stream_scalars(published):
        if name in answer.get(AT_NODE, {}).get("cohort", ()):
            return True
    return False


_ALL = sa.select(db.epochs).order_by(db.epochs.c.dataset, db.epochs.c.number)


async def all_epochs(connection: AsyncConnection) -> list[Epoch]:
    """By dataset and number."""
    return _epochs((await connection.execute(_ALL)).all())


def _epochs(rows: Sequence[sa.Row[Any]]) -> list[Epoch]:
    return [Epoch(row.dataset, row.number, row.people, row.opened_at, **(row.named or {})) for row in rows]


async def open_epochs(connection: AsyncConnection) -> list[OpenEpoch]:
    """What of all epochs an admission may depend on."""
    return [epoch.facts for epoch in await all_epochs(connection)]


def open_epochs_within(connection: sa.Connection) -> list[OpenEpoch]:
    """`open_epochs` in a transaction without an event loop."""
    return [epoch.facts for epoch in _epochs(connection.execute(_ALL).all())]


async def people(connection: AsyncConnection, names: Collection[str]) -> dict[str, frozenset[str]]:
    """The hashed ids of these cohorts, by name; those that are no epoch's are not among them."""
    epochs = {epoch.name: epoch for epoch in await all_epochs(connection)}
    found = {}
    for name in names:
        whole, _, part = name.partition("/")
        if (epoch := epochs.get(whole)) is None:
            continue
        table = db.epoch_parts if part else db.epoch_people
        query = sa.select(table.c.person).where(table.c.dataset == epoch.dataset, table.c.number == epoch.number)
        if part:
            query = query.where(db.epoch_parts.c.part == part)
        found[name] = frozenset((await connection.execute(query)).scalars())
    return found


async def outside(connection: AsyncConnection, dataset: str) -> frozenset[str]:
    """Who left the dataset with others and stays out."""
    c = db.epoch_outside.c
    return frozenset((await connection.execute(sa.select(c.person).where(c.dataset == dataset))).scalars())


async def stay_outside(connection: AsyncConnection, dataset: str, persons: Collection[str]) -> None:
    rows = [{"dataset": dataset, "person": person} for person in sorted(persons)]
    if rows:
        await connection.execute(insert(connection, db.epoch_outside).on_conflict_do_nothing(), rows)


async def open_epoch(
    connection: AsyncConnection,
    dataset: str,
    persons: frozenset[str],
    parts: Mapping[str, Collection[str]] | None = None,
    named: Mapping[str, object] | None = None,
) -> Epoch:
    """Freezes the dataset's next epoch. Whether it may open was judged before, in the same transaction. `parts`: people
    by the part's name; `named`: splits, variables and tables of an Epoch.
    """
    numbers = [epoch.number for epoch in await all_epochs(connection) if epoch.dataset == dataset]
    number = max(numbers, default=0) + 1
    values = {"dataset": dataset, "number": number, "people": len(persons), "opened_at": time.time()}
    await connection.execute(db.epochs.insert().values(**values, named=dict(named or {})))
    key = {"dataset": dataset, "number": number}
    rows = [{**key, "person": person} for person in sorted(persons)]
    for start in range(0, len(rows), BATCH):
        await connection.execute(db.epoch_people.insert(), rows[start : start + BATCH])
    rows = [{**key, "part": part, "person": one} for part, who in (parts or {}).items() for one in sorted(who)]
    for start in range(0, len(rows), BATCH):
        await connection.execute(db.epoch_parts.insert(), rows[start : start + BATCH])
    return next(e for e in await all_epochs(connection) if (e.dataset, e.number) == (dataset, number))
