"""`node-gateway audit verify | search`: what the operator reads of the audit, in plain lines."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa

from node_gateway.audit import Audit
from node_gateway.db import store as db

LOOKED_AT = 20_000
SHOWN = ("action", "actor", "run", "attempt", "task", "dataset", "what", "reason", "workflow")


class AuditRefused(Exception):
    """The search or the head cannot be understood; the text says how it is written."""


@dataclass(frozen=True)
class AuditFilter:
    """Entries that have all that is given; empty means any. `user` is a part of the actor, `text` of any field, without
    case; `since` and `until` are epoch seconds; `refused` only what was refused.
    """

    run: str = ""
    user: str = ""
    dataset: str = ""
    action: str = ""
    text: str = ""
    since: float = 0.0
    until: float = float("inf")
    refused: bool = False

    def period(self) -> list[sa.ColumnElement[bool]]:
        """`since` and `until` for the database."""
        time_ = db.audit.c.time
        return [time_ >= self.since, *([time_ <= self.until] if self.until < float("inf") else [])]

    def fits(self, entry: dict[str, Any]) -> bool:
        """Whether an audit line's JSON is meant."""
        exact = (("run", self.run), ("dataset", self.dataset), ("action", self.action))
        if any(wanted and entry.get(name) != wanted for name, wanted in exact):
            return False
        if self.refused and entry.get("allowed", False):
            return False
        if self.user and self.user.casefold() not in str(entry.get("actor", "")).casefold():
            return False
        whole = "\n".join(str(entry.get(name, "")) for name in SHOWN)
        return not self.text or self.text.casefold() in whole.casefold()


async def verify(database: db.GatewayDatabase, head: str | None) -> str:
    """How many entries follow each other, and the last one's hash. With `head`, `NUMBER:HASH` as an earlier call told
    it: that this entry is still there, so that nothing was cut off since. ValueError where the chain is broken,
    AuditRefused.
    """
    number, digest = _head(head) if head else (0, "")
    count = await Audit(database).verify()
    query = sa.select(db.audit.c.number, db.audit.c.hash)
    async with database.read() as connection:
        last = (await connection.execute(query.order_by(db.audit.c.number.desc()).limit(1))).first()
        known = (await connection.execute(query.where(db.audit.c.number == number))).first() if number else None
    if number and (known is None or known.hash != digest):
        raise ValueError(f"audit entry {number} is not the one of the head that was given: entries were cut off")
    outcome = f"{count} entries follow each other"
    return f"{outcome}; keep this head elsewhere: {last.number}:{last.hash}" if last else outcome


async def search(database: db.GatewayDatabase, wanted: AuditFilter, *, limit: int, as_json: bool) -> AsyncIterator[str]:
    """Entries that fit, oldest first, at most `limit`, a line each: as they are stored, or for people."""
    column = db.audit.c
    query = sa.select(column.line, column.hash).where(*wanted.period()).order_by(column.number)
    found = 0
    async with database.read() as connection:
        async for row in await connection.stream(query):
            entry = json.loads(row.line)
            if not wanted.fits(entry):
                continue
            yield json.dumps({**entry, "hash": row.hash}) if as_json else _line(entry)
            found += 1
            if found == limit:
                return


async def latest(
    database: db.GatewayDatabase, wanted: AuditFilter, *, before: int | None, limit: int
) -> tuple[list[dict[str, Any]], int | None]:
    """Entries that fit, the latest first, at most `limit`, and the number before which to go on, None at the end. At
    most `LOOKED_AT` lines are looked at in one go.
    """
    column = db.audit.c
    query = sa.select(column.number, column.line).where(*wanted.period()).order_by(column.number.desc())
    if before is not None:
        query = query.where(column.number < before)
    found: list[dict[str, Any]] = []
    looked_at = last = 0
    async with database.read() as connection:
        async for row in await connection.stream(query.limit(LOOKED_AT)):
            entry, last, looked_at = json.loads(row.line), row.number, looked_at + 1
            if wanted.fits(entry):
                found.append(entry)
                if len(found) == limit:
                    return found, last
    return found, last if looked_at == LOOKED_AT else None


def moment(text: str) -> float:
    """Epoch seconds of `2026-11-30`, `2026-11-30T08:00` (UTC unless it says otherwise), or `3h`, `2d` ago.
    AuditRefused.
    """
    if text[-1:] in ("m", "h", "d") and text[:-1].isdecimal() and len(text) < 8:
        return time.time() - int(text[:-1]) * {"m": 60, "h": 3600, "d": 86400}[text[-1]]
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise AuditRefused(f"{text[:40]!r} is no time: write 2026-11-30, 2026-11-30T08:00, 30m, 3h or 2d") from None
    return (found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp()


def _head(text: str) -> tuple[int, str]:
    number, _, digest = text.partition(":")
    if not (number.isdecimal() and 0 < int(number) < 2**53 and len(digest) == 64):
        raise AuditRefused("the head is NUMBER:HASH, as `node-gateway audit verify` told it")
    return int(number), digest


def _line(entry: dict[str, Any]) -> str:
    at = datetime.fromtimestamp(float(entry["time"]), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    fields = " ".join(f"{name}={_printable(entry[name])}" for name in SHOWN if entry.get(name) not in (None, "", 0))
    return f"{entry['number']} {at} {'allowed' if entry.get('allowed') else 'REFUSED'} {fields}"


def _printable(value: object) -> str:
    """A stranger wrote it: no control character reaches the terminal, and spaces are quoted."""
    text = "".join(c if c.isprintable() else "\ufffd" for c in str(value))
    return json.dumps(text, ensure_ascii=False) if " " in text or '"' in text else text
