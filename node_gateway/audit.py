"""The audit: who asked for what, and what the gateway said. Append-only, each line chained to the one before by
SHA-256.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass

import sqlalchemy as sa

from gdi.kit.canonical import canonical_json, sha256_hex
from gdi.kit.database import hold
from node_gateway.db import store as db
from node_gateway.redaction import redact

log = logging.getLogger(__name__)
GENESIS = "0" * 64
ANONYMOUS_PER_SECOND, ANONYMOUS_BURST = 5.0, 200.0
REPEATS = 10  # refusals of a kind that are written one by one
MAX_KINDS = 10_000  # kept at once
_LAST = sa.select(db.audit.c.number, db.audit.c.hash).order_by(db.audit.c.number.desc()).limit(1)
_INSERT = db.audit.insert()
TELL = 60.0  # seconds between lines that tell how many entries of unknown callers were left out


@dataclass(frozen=True)
class AuditEvent:
    """One thing that was asked. `actor` is a user's sub with the workload, `tes`, or `anonymous`; `reason` is the
    refusal's slug and sentence.
    """

    action: str
    allowed: bool
    actor: str = "anonymous"
    run: str = ""
    attempt: int = 0
    task: str = ""
    dataset: str = ""
    what: str = ""
    reason: str = ""
    workflow: str = ""


@dataclass
class _Repeats:
    """How often one caller was refused for one reason, and how many of these the audit tells of."""

    last: AuditEvent
    count: int = 0
    written: int = 0


def append(connection: sa.Connection, entries: Iterable[AuditEvent]) -> None:
    """Writes them in the transaction of `connection`, whoever asked for them."""
    hold(connection, "audit")  # an entry follows the last one of any gateway
    last = connection.execute(_LAST).first()
    first, previous = (last.number + 1, last.hash) if last else (1, GENESIS)
    now, rows = round(time.time(), 3), []
    for number, entry in enumerate(entries, first):
        texts = {k: redact(v, 600) if isinstance(v, str) else v for k, v in vars(entry).items()}
        fields = {k: v for k, v in texts.items() if v not in ("", 0)}
        line = canonical_json({"number": number, "time": now, "allowed": entry.allowed, **fields}).decode()
        digest = sha256_hex(f"{previous}\n{line}".encode())
        rows.append({"number": number, "time": now, "line": line, "previous": previous, "hash": digest})
        previous = digest
    connection.execute(_INSERT, rows)


class Audit:
    """Append-only, bounded in what strangers can make it write. Entries without a known caller are bounded in rate. Of
    a known caller's refusals of one kind (run, action, the reason's slug) the first `REPEATS` are written; further ones
    are counted, and a line tells the count at each tenfold of it and by `tell_counts`. Both hold for the log too.

    The counts are each gateway's own: two gateways on one database write at most twice as much.
    """

    def __init__(self, database: db.GatewayDatabase, repeats: int = REPEATS) -> None:
        self._db, self._most = database, repeats
        self._allowance, self._since, self._suppressed = ANONYMOUS_BURST, time.monotonic(), 0
        self._notice_at = time.monotonic()
        self._repeats: OrderedDict[tuple[str, ...], _Repeats] = OrderedDict()
        self._waiting: dict[asyncio.Future[None], AuditEvent] = {}
        self._writing = asyncio.Lock()

    async def record(self, entry: AuditEvent) -> None:
        if entry.actor == "anonymous" and not self._may_write():
            return
        if not entry.allowed and entry.actor != "anonymous" and not await self._is_news(entry):
            return
        if not entry.allowed:
            log.warning(
                "refused %s by %s: %s %s",
                entry.action,
                redact(entry.actor, 200),
                redact(entry.what, 200),
                redact(entry.reason, 400),
            )
        if time.monotonic() - self._notice_at > TELL:
            await self._tell_suppressed()
        await self._append(entry)

    async def tell_counts(self) -> None:
        """Writes how many entries were left out or counted and not told yet: now and then, and at the end."""
        await self._tell_suppressed()
        for repeats in list(self._repeats.values()):
            await self._tell(repeats)

    async def _tell_suppressed(self) -> None:
        count, self._suppressed, self._notice_at = self._suppressed, 0, time.monotonic()
        if count:
            await self._append(
                AuditEvent("audit-suppressed", False, what=f"{count} entries of unknown callers were left out")
            )

    async def _is_news(self, entry: AuditEvent) -> bool:
        kind = (entry.run, entry.action, entry.reason.partition(":")[0])
        repeats = self._repeats.setdefault(kind, _Repeats(entry))
        self._repeats.move_to_end(kind)
        repeats.last, repeats.count = entry, repeats.count + 1
        if len(self._repeats) > MAX_KINDS:
            await self._tell(self._repeats.popitem(last=False)[1])
        if repeats.count <= self._most:
            repeats.written = repeats.count
            return True
        if repeats.count >= 10 * repeats.written:
            await self._tell(repeats)
        return False

    async def _tell(self, repeats: _Repeats) -> None:
        if (more := repeats.count - repeats.written) <= 0:
            return
        repeats.written = repeats.count
        last = repeats.last
        what = f"{more} more refusals of this kind, {repeats.count} in all"
        log.warning("%s: %s", redact(last.reason, 100), what)
        await self._append(
            AuditEvent(
                "refusals-counted",
                False,
                last.actor,
                last.run,
                last.attempt,
                what=what,
                reason=last.reason[:100],
                workflow=last.workflow,
            )
        )

    def _may_write(self) -> bool:
        now = time.monotonic()
        self._allowance = min(ANONYMOUS_BURST, self._allowance + (now - self._since) * ANONYMOUS_PER_SECOND)
        self._since = now
        if self._allowance < 1:
            self._suppressed += 1
            return False
        self._allowance -= 1
        return True

    async def _append(self, entry: AuditEvent) -> None:
        """It is written when this returns. What waits meanwhile goes into one transaction: on SQLite by the database's
        own way, elsewhere who gets the turn writes it all, and where that fails each of the others tries again.
        """
        if not self._db.shared:
            await self._db.transact(lambda connection: append(connection, [entry]))
            return
        written = asyncio.get_running_loop().create_future()
        self._waiting[written] = entry
        async with self._writing:
            if written.done():
                return
            batch = dict(self._waiting)
            try:
                await self._db.transact(lambda connection: append(connection, batch.values()))
            except BaseException:
                del self._waiting[written]
                raise
            for done in batch:
                del self._waiting[done]
                done.set_result(None)

    async def lines(self, *, after: int = 0, run: str = "", limit: int = 1000) -> AsyncIterator[dict[str, object]]:
        """Entries in order, with `hash` and `previous`, at most `limit`."""
        query = sa.select(db.audit).where(db.audit.c.number > after).order_by(db.audit.c.number).limit(limit)
        if run:
            line = db.audit.c.line
            of = sa.cast(line, sa.JSON)["run"].as_string() if self._db.shared else sa.func.json_extract(line, "$.run")
            query = query.where(of == run)
        async with self._db.read() as connection:
            for row in (await connection.execute(query)).all():
                yield {**json.loads(row.line), "previous": row.previous, "hash": row.hash}

    async def verify(self) -> int:
        """The number of entries, when the chain is whole; ValueError naming the first that was changed, put in or taken
        out.
        """
        previous, number = GENESIS, 0
        async with self._db.read() as connection:
            rows = await connection.stream(sa.select(db.audit).order_by(db.audit.c.number))
            async for row in rows:
                number += 1
                good = (
                    row.number == number
                    and row.previous == previous
                    and row.hash == sha256_hex(f"{previous}\n{row.line}".encode())
                )
                if not good or json.loads(row.line).get("number") != number:
                    raise ValueError(f"audit entry {number} does not follow the one before it")
                previous = row.hash
        return number
