"""Uses of the node's data by run, made of the audit's lines: who, with which workflow, what was read, what left, what
was refused.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time
from typing import Any

import sqlalchemy as sa

from node_gateway.audit_search import AuditFilter
from node_gateway.db import store as db

MOST_LINES = 200_000  # of a period: about two seconds of CPU
LEAVES = ("release-published",)


@dataclass
class NodeUse:
    """One run at this node. Times are seconds since the epoch. `visas`: how access was proven to the node itself;
    empty where it believed the coordinator. `left`: a line for each release, with count and checksum. `wanted`: every
    dataset that was asked for, those that were refused among them.
    """

    run: str
    user: str = ""
    workflow: str = ""
    first: float = 0.0
    last: float = 0.0
    datasets: dict[str, int] = field(default_factory=dict)
    tasks: int = 0
    visas: list[str] = field(default_factory=list)
    left: list[str] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    wanted: set[str] = field(default_factory=set)

    def add(self, entry: dict[str, Any]) -> None:
        action, actor = str(entry["action"]), str(entry.get("actor", ""))
        self.first, self.last = self.first or float(entry["time"]), float(entry["time"])
        if " (" in actor and not actor.startswith(("committee ", "reviewer ")):
            self.user = actor.rpartition(" (")[0]
        elif action == "order" and actor != "broker":
            self.user = self.user or actor
        self.workflow = str(entry.get("workflow", "")) or self.workflow
        if dataset := str(entry.get("dataset") or ""):
            self.wanted.add(dataset)
        if not entry.get("allowed"):
            if len(self.refused) < 20:
                self.refused.append(str(entry.get("reason", ""))[:300])
            return
        if action == "read" and entry.get("dataset"):
            self.datasets[entry["dataset"]] = self.datasets.get(entry["dataset"], 0) + 1
        elif action == "task-created":
            self.tasks += 1
        elif action == "visa":
            self.visas.append(str(entry.get("what", "")))
        elif action in LEAVES:
            self.left.append(str(entry.get("what", "")))


class TooManyLines(Exception):
    """The period has more lines than are looked at in one go."""


async def lines(database: db.GatewayDatabase, wanted: AuditFilter) -> AsyncIterator[dict[str, Any]]:
    """Entries of the period that fit, oldest first. TooManyLines before it becomes long."""
    c = db.audit.c
    query = sa.select(c.line).where(c.time >= wanted.since)
    if wanted.until < float("inf"):
        query = query.where(c.time < wanted.until)
    async with database.read() as connection:
        count = (await connection.execute(sa.select(sa.func.count()).select_from(query.subquery()))).scalar_one()
        if count > MOST_LINES:
            raise TooManyLines(f"{count} lines")
        async for row in await connection.stream(query.order_by(c.number)):
            entry = json.loads(row.line)
            if wanted.fits(entry):
                yield entry


async def uses(database: db.GatewayDatabase, wanted: AuditFilter) -> list[NodeUse]:
    """By run, the latest first. `wanted.user` and `wanted.dataset` choose runs, not lines of them."""
    found: dict[str, NodeUse] = {}
    async for entry in lines(database, AuditFilter(run=wanted.run, since=wanted.since, until=wanted.until)):
        run = entry.get("run")
        if run:
            found.setdefault(run, NodeUse(run)).add(entry)
    chosen = [
        use
        for use in found.values()
        if wanted.user.casefold() in use.user.casefold()
        and (not wanted.dataset or wanted.dataset in use.wanted)
        and (use.refused or not wanted.refused)
        and (use.user or use.wanted)
    ]
    return sorted(chosen, key=lambda use: -use.last)


def day(text: str, *, end: bool = False) -> float:
    """Epoch seconds of the day's begin in UTC, or of its end. ValueError."""
    return datetime.combine(date.fromisoformat(text), time(), UTC).timestamp() + (86400 if end else 0)
