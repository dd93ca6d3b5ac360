"""The audit: who asked for what, and what the gateway said. Append-only, each line chained to the one before by
SHA-256.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import AsyncIterator
from dataclasses import asdict, dataclass

import sqlalchemy as sa

from gdi.kit.canonical import canonical_json, sha256_hex
from gdi.kit.database import exclusive
from node_gateway.db import store as db
from node_gateway.redaction import redact

log = logging.getLogger(__name__)
GENESIS = "0" * 64
ANONYMOUS_PER_SECOND, ANONYMOUS_BURST = 5.0, 200.0


@dataclass(frozen=True)
class Entry:
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


class Audit:
    """Entries without a known caller are bounded in rate, so that a flood of bad tokens cannot fill the disk; what is
    left out is counted and told.
    """

    def __init__(self, database: db.GatewayDatabase) -> None:
        self._db = database
        self._allowance, self._since, self._suppressed = ANONYMOUS_BURST, time.monotonic(), 0

    async def record(self, entry: Entry) -> None:
        if not entry.allowed:
            log.warning(
                "refused %s by %s: %s %s",
                entry.action,
                redact(entry.actor, 200),
                redact(entry.what, 200),
                redact(entry.reason, 400),
            )
        if entry.actor == "anonymous" and not self._may_write():
            return
        if self._suppressed:
            count, self._suppressed = self._suppressed, 0
            await self._append(
                Entry("audit-suppressed", False, what=f"{count} entries of unknown callers were left out")
            )
        await self._append(entry)

    def _may_write(self) -> bool:
        now = time.monotonic()
        self._allowance = min(ANONYMOUS_BURST, self._allowance + (now - self._since) * ANONYMOUS_PER_SECOND)
        self._since = now
        if self._allowance < 1:
            self._suppressed += 1
            return False
        self._allowance -= 1
        return True

    async def _append(self, entry: Entry) -> None:
        fields = {k: redact(v, 600) if isinstance(v, str) else v for k, v in asdict(entry).items() if v not in ("", 0)}
        query = sa.select(db.audit.c.number, db.audit.c.hash).order_by(db.audit.c.number.desc()).limit(1)
        async with self._db.write() as connection:
            await exclusive(connection, "audit")  # an entry follows the last one of any gateway
            last = (await connection.execute(query)).first()
            number, previous = (last.number + 1, last.hash) if last else (1, GENESIS)
            now = round(time.time(), 3)
            line = canonical_json({"number": number, "time": now, "allowed": entry.allowed, **fields}).decode()
            digest = sha256_hex(f"{previous}\n{line}".encode())
            await connection.execute(
                db.audit.insert().values(number=number, time=now, line=line, previous=previous, hash=digest)
            )

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
