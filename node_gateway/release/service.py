"""A release from the workspace to the release area: read, check, remember in the ledger, publish, sign. The same file
again gets the same answer.
"""

from __future__ import annotations

import asyncio
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from gdi.contracts.gateway_api import WAITING, AwaitingReview, Released, ReleaseRequest
from gdi.contracts.overlaps import shared_people
from gdi.contracts.urls import WorkspaceUrl
from gdi.kit.database import exclusive
from gdi.kit.jose import SigningKey
from gdi.kit.problem import ProblemError
from gdi.releases import columns, signature
from gdi.releases.kind import FormatError, Kind, NotBesideError
from gdi.releases.registry import kind_of, kinds
from node_gateway.audit import Audit, AuditEvent
from node_gateway.auth import Caller
from node_gateway.db import store as db
from node_gateway.db.locks import DatabaseLocks
from node_gateway.locations import check_path
from node_gateway.metrics import Metrics
from node_gateway.policy import PolicyFile
from node_gateway.release import budget, ledger, ledger_files, question
from node_gateway.release.public import not_beside, refusal, retracted, rounded, without_row
from node_gateway.release.verdict import ReleaseCheck
from node_gateway.review.cases import AT_NODE
from node_gateway.review.service import Reviews
from node_gateway.workspace.bucket import Bucket

OCTETS = "application/octet-stream"  # of a kind that is no longer installed


@dataclass
class Releases:
    node: str
    public_url: str
    database: db.GatewayDatabase
    policy: PolicyFile
    key: SigningKey
    workspace: Bucket
    area: Bucket
    audit: Audit
    metrics: Metrics
    reviews: Reviews
    locks: DatabaseLocks  # what two releases may tell together is judged one after the other

    async def ask(self, request: ReleaseRequest, caller: Caller) -> tuple[int, dict[str, Any]]:
        """(200, the release) or (202, awaiting review). ProblemError: 403 not allowed here, 404 no such file, 422
        `release-refused`.
        """
        kind = self._allowed(request, caller)
        async with self.database.read() as connection:
            request = await question.of_begin(connection, request, caller)
            await question.admit(self.policy, connection, question.of_request(request, caller))
            request = await question.with_levels(connection, request, caller)
        async with self.locks.alone("releases"):
            with tempfile.TemporaryDirectory(prefix="gdi-release-") as folder:
                digest = await self._fetch(request.path, kind, caller, Path(folder) / "source")
                known = await self._known(caller.run, request.name, digest)
                if known is not None:
                    await self._need_same(known.answer, request, caller)
                else:
                    known = await self._publish(request, kind, caller, digest, Path(folder))
        answer = {name: value for name, value in known.answer.items() if name != AT_NODE}
        if known.state == "refused":
            reason = await self.reviews.reason(known.number)
            raise refusal(["a person of the node looked at it and refused it" + (f": {reason}" if reason else "")])
        if known.state == WAITING:
            return 202, AwaitingReview(name=request.name).model_dump()
        return 200, answer

    def _allowed(self, request: ReleaseRequest, caller: Caller) -> Kind:
        kind = kind_of(request.kind)
        claims = {"workflow": request.workflow, "digest": request.digest, "attempt": request.attempt}
        for name, value in claims.items():
            if value is not None and value != getattr(caller, name):
                raise ProblemError(
                    403,
                    "release-mismatch",
                    f"The {name} asked for is not the run token's.",
                    action="Ask for the run's own releases only.",
                )
        for path in (request.path, *request.levels.values()):
            check_path(path, str(WorkspaceUrl(caller.run, path)))
        return kind

    async def _fetch(self, path: str, kind: Kind, caller: Caller, into: Path) -> str:
        """The file's SHA-256 (hex), its content in `into`."""
        most, rules = kind.parquet, self.policy.current().releases
        limit = max(rules.max_bytes, rules.max_parquet_bytes) if most else rules.max_bytes
        with into.open("w+b") as file:
            size = await self.workspace.download(f"{caller.run}/{path}", file, limit)
            file.seek(0)
            if not (most and columns.is_parquet(file.read(4))):
                limit = rules.max_bytes
        if size > limit:
            raise refusal([f"the file is larger than {limit} bytes, which is what this node looks at"])
        return await asyncio.to_thread(columns.sha256_of, into)

    async def _known(self, run: str, name: str, source: str) -> sa.Row[Any] | None:
        c = db.releases.c
        async with self.database.read() as connection:
            query = sa.select(db.releases).where(c.run == run, c.name == name, c.source_sha256 == source)
            return (await connection.execute(query)).first()

    async def _need_same(self, answer: dict[str, Any], request: ReleaseRequest, caller: Caller) -> None:
        async with self.database.read() as connection:
            same = await question.is_of(connection, answer, request, caller)
        if not same:
            raise ProblemError(
                403,
                "release-mismatch",
                f"This run released these bytes as {request.name} before, of another cohort.",
                action="Ask for the cohort that the run counted.",
            )

    async def _publish(
        self, request: ReleaseRequest, kind: Kind, caller: Caller, source: str, folder: Path
    ) -> sa.Row[Any]:
        newest = await self._newest()
        async with self.database.read() as connection:
            this = await question.read(self.policy, connection, request, caller)
            cohort = await question.with_numbers(connection, request.cohort, caller.datasets)
        for number, level in enumerate(sorted(this.levels)):  # no others than the split has
            await self._fetch(request.levels[level], kind, caller, folder / f"level-{number}")
        names, past = this.names, this.past
        check = ReleaseCheck(kind, this, caller.run, folder, self.database, self.area)
        try:
            verdict = await check.verdict()
        except FormatError as error:
            self.metrics.releases.labels("refused").inc()
            await self.audit.record(
                AuditEvent("release-refused", False, caller.actor, caller.run, caller.attempt, reason=str(error)[:500])
            )
            raise refusal([without_row(str(error))]) from None
        except NotBesideError as error:
            self.metrics.releases.labels("refused").inc()
            raise not_beside(error) from None
        except ProblemError as error:
            if error.slug == "other-people":
                self.metrics.releases.labels("refused").inc()
            raise
        published = folder / "published"
        digest = await asyncio.to_thread(columns.sha256_of, published)
        key = f"{caller.run}/{request.name}/{digest}{verdict.suffix}"
        with published.open("rb") as out:  # by its content's name: unknown to anyone until the row below is there
            await self.area.upload(key, out, verdict.media_type)
        answer = Released(
            name=request.name,
            kind=kind.name,
            sha256=digest,
            bytes=published.stat().st_size,
            url=f"{self.public_url}/releases/{caller.run}/{request.name}",
            signature=signature.sign(
                self.key,
                node=self.node,
                run=caller.run,
                name=request.name,
                sha256=digest,
                workflow=caller.workflow,
                digest=caller.digest,
                attempt=caller.attempt,
            ),
            sites_released=verdict.released,
            sites_withheld=None if verdict.public is None else rounded(sum((verdict.counts or {}).values())),
            withheld=dict(verdict.public or {}),
            cohort=cohort,
            overlaps=shared_people(map(self.policy.datasets.of, sorted(caller.datasets))),
        ).model_dump(mode="json")
        answer[AT_NODE] = {
            "withheld": dict(sorted(verdict.withheld.items())),
            "cohort": sorted(names),
            "floor": this.rules.floor,
            "people": len(past.own) // 50 * 50 if this.listed else None,
            "remarks": verdict.remarks,
            "user": caller.user,
            "workflow": caller.workflow,
        }
        state = WAITING if self.reviews.needed(request.review) else "published"
        if verdict.columns is not None:
            answer[AT_NODE][ledger_files.CELLS] = await ledger_files.keep(self.area, key, verdict.columns)
        elif state == WAITING:  # nothing left yet: they are remembered when it does
            await self.reviews.keep_cells(key, verdict.cells)
        values = {
            "run": caller.run,
            "name": request.name,
            "source_sha256": source,
            "state": state,
            "key": key,
            "answer": answer,
            "time": time.time(),
        }
        async with self.database.write() as connection:
            await exclusive(connection, "ledger")
            now = await question.admit(self.policy, connection, question.of_request(request, caller))
            # The lock was lost, or an epoch opened: what was judged is not all that left before.
            if now != names or await _newest(connection) != newest:
                raise ProblemError(
                    503, "release-busy", "Another release came in between.", action="Ask again.", retry_after=1
                )
            result = await connection.execute(db.releases.insert().values(**values))
            sets = await ledger.datasets_id(connection, names)
            if state == "published":
                await ledger.write(connection, sets, kind.name, verdict.cells, _number(result))
            await budget.use(connection, _number(result), sets, verdict.statistics, len(past.own))
            if state != "published":
                await self.reviews.note(connection, _number(result), question.of_request(request, caller), caller)
        await self.database.make_durable()
        self.metrics.releases.labels(state).inc()
        what = f"{request.name}: {verdict.released} {kind.unit}s, {verdict.withheld.total()} withheld, sha256 {digest}"
        await self.audit.record(
            AuditEvent(
                f"release-{state}", True, caller.actor, caller.run, caller.attempt, what=what, workflow=caller.workflow
            )
        )
        known = await self._known(caller.run, request.name, source)
        assert known is not None
        return known

    async def _newest(self) -> tuple[int, float]:
        async with self.database.read() as connection:
            return await _newest(connection)

    async def open(self, run: str, name: str, into: Path) -> str:
        """Writes the published bytes of the run's latest release of that name; their media type. ProblemError 404, 502
        where the stored bytes are not those that were signed.
        """
        c = db.releases.c
        async with self.database.read() as connection:
            query = (
                sa.select(db.releases, db.retractions.c.reason.label("retraction"))
                .outerjoin(db.retractions, db.retractions.c.release == c.number)
                .where(c.run == run, c.name == name, c.state == "published")
                .order_by(c.number.desc())
                .limit(1)
            )
            row = (await connection.execute(query)).first()
        if row is None:
            raise ProblemError(
                404,
                "unknown-release",
                f"Run {run} has released nothing named {name} here.",
                action="Ask for the release first.",
            )
        if row.retraction is not None:
            raise retracted(name, row.retraction)
        with into.open("wb") as file:
            await self.area.download(row.key, file, ledger_files.MOST_BYTES)
        if await asyncio.to_thread(columns.sha256_of, into) != row.answer["sha256"]:
            raise ProblemError(
                502,
                "release-damaged",
                f"The stored release {name} is not what was signed.",
                action="Tell the node's operator.",
            )
        if row.key.endswith(columns.SUFFIX):
            return columns.MEDIA_TYPE
        kind = kinds().get(str(row.answer.get("kind", "allele-counts")))
        return kind.media_type if kind else OCTETS


async def _newest(connection: AsyncConnection) -> tuple[int, float]:
    """The number of the last release, and when a person last decided on one."""
    number = (await connection.execute(sa.select(sa.func.max(db.releases.c.number)))).scalar_one()
    decided = (await connection.execute(sa.select(sa.func.max(db.reviews.c.decided_at)))).scalar_one()
    return int(number or 0), float(decided or 0)


def _number(result: sa.CursorResult[Any]) -> int:
    key = result.inserted_primary_key
    assert key is not None
    return int(key[0])
