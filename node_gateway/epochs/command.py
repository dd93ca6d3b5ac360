"""`node-gateway epoch open | list` and `cohort list | compare`: what the operator does, in plain sentences."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sqlalchemy.ext.asyncio import AsyncConnection

from gdi.contracts.descriptor import LEAST, Descriptor
from gdi.kit.database import exclusive
from gdi.kit.jose import SigningKey
from node_gateway.audit import Audit, AuditEvent
from node_gateway.db.store import GatewayDatabase
from node_gateway.epochs import persons, store
from node_gateway.epochs.opening import companions, small_cohorts, small_parts
from node_gateway.epochs.persons import PersonsError


class EpochRefused(Exception):
    """The epoch did not open; a sentence for each part that is too small."""


@dataclass(frozen=True)
class Opening:
    """What the operator asks for: a list of ids (`persons`) or the sample table (`samples`), and the dataset's
    descriptor where it has one. `least`: people by whom cohorts may differ; the descriptor's where it is None.
    `same_people`: the operator knows that what left before the first epoch was of exactly these people.
    """

    dataset: str
    persons: Path | None = None
    samples: Path | None = None
    least: int | None = None
    others_leave: bool = False
    descriptor: Descriptor | None = None
    same_people: bool = False

    @property
    def min_difference(self) -> int:
        if self.least is not None:
            return self.least
        return self.descriptor.min_difference if self.descriptor else LEAST


async def open_(database: GatewayDatabase, key: SigningKey, request: Opening, *, dry_run: bool) -> str:
    """Opens the epoch, or says what would happen. EpochRefused, PersonsError."""
    people, parts, named = _people(key, request)
    counts = request.descriptor.filter if request.descriptor else None
    named |= {"filter": counts.model_dump(mode="json", exclude_defaults=True)} if counts else {}
    dataset, least = request.dataset, request.min_difference
    async with database.write() as connection:
        await exclusive(connection, "ledger")
        epochs = await store.all_epochs(connection)
        mine = [epoch for epoch in epochs if epoch.dataset == dataset]
        if mine and request.descriptor is not None and not request.descriptor.lists_people:
            raise EpochRefused(
                f"- the descriptor of {dataset} names neither samples nor identifiers: one epoch of it is answered"
            )
        if not mine and not request.same_people and await store.left_without_epoch(connection, dataset):
            raise EpochRefused(
                f"- numbers of {dataset} left before it had an epoch, and nobody wrote down of whom: one person more or"
                " less would be found out. Where it was exactly these people, say --same-people; else serve the data"
                " under a new dataset id"
            )
        others, away = frozenset[str](), await store.outside(connection, dataset)
        earlier = await _cohorts(connection, epochs)
        if mine and request.others_leave:
            before = earlier[mine[-1].name][1]
            others = companions(people - away, before, least, lambda person: persons.place(key, dataset, person))
        people = people - away - others
        parts = {name: who & people for name, who in parts.items()}
        small = small_parts(people, dataset, earlier, least) + small_cohorts(people, parts, earlier, least)
        if small:
            raise EpochRefused("\n".join(dict.fromkeys(f"- {part.sentence(least)}" for part in small)))
        also = f" {len(others)} others leave with those who left." if others else ""
        if dry_run:
            sizes = "".join(f"\n{name}: {len(who)} people" for name, who in sorted(parts.items()))
            return f"An epoch of {dataset} with {len(people)} people would open.{also} Nothing was changed.{sizes}"
        await store.stay_outside(connection, dataset, others)
        epoch = await store.open_epoch(connection, dataset, people, parts, named)
    await database.make_durable()
    what = f"{dataset}, epoch {epoch.number}, {epoch.people} people"
    await Audit(database).record(AuditEvent("epoch-open", True, "operator", what=what))
    return (
        f"Epoch {epoch.number} of {dataset} is open: {epoch.people} people.{also} Runs are answered for it from now on."
    )


def _people(
    key: SigningKey, request: Opening
) -> tuple[frozenset[str], dict[str, frozenset[str]], dict[str, Any]]:  # what a row of the database holds
    """(everybody, people by part, what is named of them), hashed."""
    if (request.persons is None) == (request.samples is None):
        raise PersonsError("give one of --persons and --samples")
    if request.persons is not None:
        return persons.hashed(key, persons.read(request.persons)), {}, {}
    if request.descriptor is None or request.descriptor.samples is None:
        raise PersonsError(f"the descriptor of {request.dataset} names no sample table: use --persons")
    assert request.samples is not None
    table = persons.read_table(request.samples, request.descriptor, request.min_difference)
    parts = {name: persons.hashed(key, who) for name, who in table.parts.items()}
    return persons.hashed(key, table.people), parts, table.named


async def _cohorts(connection: AsyncConnection, epochs: list[store.Epoch]) -> dict[str, tuple[str, frozenset[str]]]:
    """(dataset, people) of every cohort of these epochs, by its name in the ledger."""
    names = {name: epoch.dataset for epoch in epochs for name in _names(epoch)}
    known = await store.people(connection, names)
    return {name: (dataset, known[name]) for name, dataset in names.items()}


def _names(epoch: store.Epoch) -> list[str]:
    return [epoch.name, *(f"{epoch.name}/{part}" for part in epoch.parts)]


async def lines(database: GatewayDatabase) -> str:
    """All epochs, a line each."""
    async with database.read() as connection:
        epochs = await store.all_epochs(connection)
    return "\n".join(_line(epoch) for epoch in epochs) or "No epoch is open."


def _line(epoch: store.Epoch) -> str:
    day = datetime.fromtimestamp(epoch.opened_at, UTC).date()
    line = f"{epoch.dataset}\tepoch {epoch.number}\t{epoch.people} people\topened {day}"
    return f"{line}\t{epoch.genotypes.words}" if epoch.genotypes else line


async def cohort_lines(database: GatewayDatabase, dataset: str | None = None) -> str:
    """What a run may name, a line each: the cohort's name in the ledger, and its people."""
    found: Mapping[str, tuple[str, frozenset[str]]] = {}
    async with database.read() as connection:
        epochs = [e for e in await store.all_epochs(connection) if dataset in (None, e.dataset)]
        found = await _cohorts(connection, epochs)
    return "\n".join(f"{name}\t{len(people)} people" for name, (_, people) in found.items()) or "No epoch is open."


async def comparison(database: GatewayDatabase, one: str, other: str) -> str:
    """How many people two cohorts share. PersonsError where one is not open."""
    async with database.read() as connection:
        found = await store.people(connection, [one, other])
    for name in (one, other):
        if name not in found:
            raise PersonsError(f"no cohort is named {name}: `node-gateway cohort list` names them")
    mine, theirs = found[one], found[other]
    return (
        f"{len(mine & theirs)} people are in both, {len(mine - theirs)} in {one} only,"
        f" {len(theirs - mine)} in {other} only."
    )
