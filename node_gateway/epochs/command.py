"""`node-gateway epoch open | list`: what the operator does, in plain sentences."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from gdi.kit.database import exclusive
from gdi.kit.jose import SigningKey
from node_gateway.audit import Audit, AuditEvent
from node_gateway.db.store import GatewayDatabase
from node_gateway.epochs import persons, store
from node_gateway.epochs.opening import LEAST, small_parts


class EpochRefused(Exception):
    """The epoch did not open; a sentence for each part that is too small."""


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """The command's arguments."""
    text = (
        "an epoch freezes who is behind a dataset; runs are answered for its newest one. A group of people that two"
        " epochs do not share must be empty or large: else their releases, subtracted, tell about few people"
    )
    verbs = commands.add_parser("epoch", help="open and list epochs of datasets", description=text)
    verb = verbs.add_subparsers(dest="verb", metavar="VERB", required=True)
    opening = "open the next epoch of a dataset: its people, one id a line. The ids are not kept, only keyed hashes"
    open_ = verb.add_parser("open", help=opening, description=opening)
    open_.add_argument("dataset", metavar="DATASET")
    open_.add_argument("--persons", type=Path, required=True, metavar="FILE")
    open_.add_argument("--min-difference", type=int, default=LEAST, metavar="N", help=f"people, {LEAST} by default")
    open_.add_argument("--dry-run", action="store_true", help="say what would happen, and open nothing")
    listing = "list all epochs: dataset, number, people, day"
    verb.add_parser("list", help=listing, description=listing)


async def open_(
    database: GatewayDatabase, key: SigningKey, dataset: str, file: Path, least: int, *, dry_run: bool
) -> str:
    """Opens the epoch, or says what would happen. EpochRefused, PersonsError."""
    people = persons.hashed(key, persons.read(file))
    async with database.write() as connection:
        await exclusive(connection, "ledger")
        epochs = await store.all_epochs(connection)
        known = await store.people(connection, {epoch.name for epoch in epochs})
        earlier = {epoch.name: (epoch.dataset, known[epoch.name]) for epoch in epochs}
        small = small_parts(people, dataset, earlier, least)
        if small:
            raise EpochRefused("\n".join(f"- {part.sentence(least)}" for part in small))
        if dry_run:
            return f"An epoch of {dataset} with {len(people)} people would open. Nothing was changed."
        epoch = await store.open_epoch(connection, dataset, people)
    await database.make_durable()
    what = f"{dataset}, epoch {epoch.number}, {epoch.people} people"
    await Audit(database).record(AuditEvent("epoch-open", True, "operator", what=what))
    return f"Epoch {epoch.number} of {dataset} is open: {epoch.people} people. Runs are answered for it from now on."


async def lines(database: GatewayDatabase) -> list[str]:
    """All epochs, a line each."""

    def table(epochs: list[store.Epoch]) -> Iterator[str]:
        for epoch in epochs:
            day = datetime.fromtimestamp(epoch.opened_at, UTC).date()
            yield f"{epoch.dataset}\tepoch {epoch.number}\t{epoch.people} people\topened {day}"

    async with database.read() as connection:
        return list(table(await store.all_epochs(connection))) or ["No epoch is open."]
