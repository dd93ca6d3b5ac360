"""Epochs in the gateway's database, and the cohorts that they give to the ledger.

A dataset's first epoch has the dataset's own name in the ledger, so that what left before epochs were opened is of the
same people; the following ones are `DATASET@2` and so on.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable
from dataclasses import dataclass

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from node_gateway.db import store as db

BATCH = 1000


@dataclass(frozen=True)
class Epoch:
    """One frozen version of a dataset: `number` from 1, how many `people`, when it was opened (seconds, UTC)."""

    dataset: str
    number: int
    people: int
    opened_at: float

    @property
    def name(self) -> str:
        """What the ledger calls its cohort."""
        return name_of(self.dataset, self.number)


def name_of(dataset: str, number: int) -> str:
    return dataset if number == 1 else f"{dataset}@{number}"


async def all_epochs(connection: AsyncConnection) -> list[Epoch]:
    """By dataset and number."""
    c = db.epochs.c
    rows = await connection.execute(sa.select(db.epochs).order_by(c.dataset, c.number))
    return [Epoch(row.dataset, row.number, row.people, row.opened_at) for row in rows]


async def people(connection: AsyncConnection, names: Collection[str]) -> dict[str, frozenset[str]]:
    """The hashed ids of these cohorts, by name; those that are no epoch's are not among them."""
    epochs = [epoch for epoch in await all_epochs(connection) if epoch.name in names]
    found = {}
    for epoch in epochs:
        c = db.epoch_people.c
        query = sa.select(c.person).where(c.dataset == epoch.dataset, c.number == epoch.number)
        found[epoch.name] = frozenset((await connection.execute(query)).scalars())
    return found


async def cohort_names(connection: AsyncConnection, datasets: Iterable[str]) -> list[str]:
    """What the ledger calls the newest epoch of each dataset; a dataset without epochs has its own name."""
    newest: dict[str, int] = {}
    for epoch in await all_epochs(connection):
        newest[epoch.dataset] = epoch.number
    return [name_of(dataset, newest.get(dataset, 1)) for dataset in datasets]


async def open_epoch(connection: AsyncConnection, dataset: str, persons: frozenset[str]) -> Epoch:
    """Freezes the dataset's next epoch. Whether it may open was judged before, in the same transaction."""
    numbers = [epoch.number for epoch in await all_epochs(connection) if epoch.dataset == dataset]
    epoch = Epoch(dataset, max(numbers, default=0) + 1, len(persons), time.time())
    values = {"dataset": dataset, "number": epoch.number, "people": epoch.people, "opened_at": epoch.opened_at}
    await connection.execute(db.epochs.insert().values(**values))
    rows = [{"dataset": dataset, "number": epoch.number, "person": person} for person in sorted(persons)]
    for start in range(0, len(rows), BATCH):
        await connection.execute(db.epoch_people.insert(), rows[start : start + BATCH])
    return epoch
