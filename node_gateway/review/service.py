"""Releases that await a person of the node: what they hold, the decision on exactly these bytes, and waiting for it."""

from __future__ import annotations

import asyncio
import io
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from gdi.contracts.cohorts import AdmissionQuestion
from gdi.contracts.gateway_api import WAITING, ReviewState
from gdi.kit.database import exclusive
from gdi.kit.problem import ProblemError
from gdi.releases import columns
from gdi.releases.kind import Cell, NodeHalf
from gdi.releases.registry import kind_of
from node_gateway.audit import Audit, AuditEvent
from node_gateway.auth import Caller
from node_gateway.db import store as db
from node_gateway.policy import PolicyFile
from node_gateway.redaction import redact
from node_gateway.release import budget, ledger, question
from node_gateway.release.ledger_files import MOST_BYTES
from node_gateway.review import rows
from node_gateway.review.cases import AT_NODE, Case, Excerpt
from node_gateway.workspace.bucket import Bucket

MAX_WAITERS = 2000  # long polls at once; more are answered at once
MAX_REASON = 500
CELLS = ".cells"  # beside a release that waits, in the release area
LOOK = 2.0  # seconds between looks for a decision that another gateway took


@dataclass
class Reviews:
    database: db.GatewayDatabase
    policy: PolicyFile
    area: Bucket
    audit: Audit
    _news: asyncio.Event = field(default_factory=asyncio.Event)
    _waiters: int = 0

    def needed(self, request: bool) -> bool:
        """Whether a release waits for a person: the node's policy says so, the workflow asks for it, or nobody at the
        node can prove what ran (`Policy.unattested`).
        """
        policy = self.policy.current()
        return request or policy.review or policy.unattested

    def may(self, sub: str) -> bool:
        """Whether this user of the node's sign-in is a reviewer by the policy of now."""
        return sub in self.policy.current().reviewers

    async def note(
        self, connection: AsyncConnection, release: int, question: AdmissionQuestion, caller: Caller
    ) -> None:
        """Keeps who asked beside a release that waits, in the transaction that makes it."""
        request = {
            "user": caller.user,
            "workflow": caller.workflow,
            "digest": caller.digest,
            "attempt": caller.attempt,
            "datasets": sorted(caller.datasets),
            "question": question.model_dump(mode="json"),
        }
        await connection.execute(db.reviews.insert().values(release=release, asked=request, reason=""))

    async def reason(self, release: int) -> str:
        async with self.database.read() as connection:
            return str(
                (
                    await connection.execute(sa.select(db.reviews.c.reason).where(db.reviews.c.release == release))
                ).scalar_one_or_none()
                or ""
            )

    async def waiting(self) -> list[Case]:
        """At most 1000, oldest first."""
        return await self._cases()

    async def case(self, run: str, name: str, sha256: str = "") -> Case:
        """The latest that waits of that run and name (with these bytes). ProblemError 404."""
        found = [c for c in await self._cases(run, name) if not sha256 or c.sha256 == sha256]
        if not found:
            raise ProblemError(
                404,
                "nothing-to-review",
                f"No such release {name} of run {run} awaits review.",
                action="It was decided, or never asked for.",
            )
        return found[-1]

    async def _cases(self, run: str = "", name: str = "") -> list[Case]:
        c = db.releases.c
        query = (
            sa.select(db.releases, db.reviews.c.asked)
            .outerjoin(db.reviews, db.reviews.c.release == c.number)
            .where(c.state == WAITING)
        )
        if run:
            query = query.where(c.run == run, c.name == name)
        async with self.database.read() as connection:
            found = await connection.execute(query.order_by(c.number).limit(1000))
            return [Case(r.number, r.run, r.name, r.key, r.answer, r.asked or {}, r.time) for r in found]

    async def excerpt(self, case: Case, start: int, count: int) -> Excerpt:
        """Rows `start` (0 is the first) and following of the very bytes that would leave. ProblemError 502 where they
        are not those that were asked for.
        """
        return await self._excerpt(case, lambda half, file: rows.rows(half, file, start, count))

    async def spread(self, case: Case, shares: Sequence[float], count: int) -> Excerpt:
        """`count` rows around each of these shares of its length."""
        return await self._excerpt(case, lambda half, file: rows.spread(half, file, shares, count))

    async def _excerpt(self, case: Case, read: Callable[[NodeHalf[Any, Any], Path], rows.Rows]) -> Excerpt:
        kind = kind_of(case.kind)
        half = kind.node()
        with tempfile.TemporaryDirectory(prefix="gdi-review-") as folder:
            file = Path(folder) / "release"
            await self.content(case, file)
            return Excerpt(kind.unit, half.columns, await asyncio.to_thread(read, half, file))

    async def content(self, case: Case, into: Path) -> None:
        """The very bytes that would leave. ProblemError 502 where they are not those that were asked for."""
        with into.open("wb") as file:
            await self.area.download(case.key, file, MOST_BYTES)
        if await asyncio.to_thread(columns.sha256_of, into) != case.sha256:
            raise _damaged()

    async def decide(self, run: str, name: str, sha256: str, *, reviewer: str, approve: bool, reason: str = "") -> None:
        """A person's decision on exactly these bytes; of two at once the first counts. ProblemError 404 where nothing
        such awaits one.
        """
        state, c, reason = ("published" if approve else "refused"), db.releases.c, redact(reason.strip(), MAX_REASON)
        waiting = [case for case in await self._cases(run, name) if case.sha256 == sha256] if approve else []
        cells = {case.number: await self._cells(case.key) for case in waiting}
        async with self.database.write() as connection:
            await exclusive(connection, "ledger")
            query = (
                sa.select(db.releases, db.reviews.c.asked)
                .outerjoin(db.reviews, db.reviews.c.release == c.number)
                .where(c.run == run, c.name == name, c.state == WAITING)
                .with_for_update(of=db.releases)
            )
            found = [r for r in await connection.execute(query) if r.answer["sha256"] == sha256]
            for row in found:
                if approve:
                    await self._still_open(connection, row)
                    await self._remember(connection, row, cells.get(row.number))
                await self._settle(connection, row, state, reviewer, reason)
        if not found:
            raise ProblemError(
                404,
                "nothing-to-review",
                f"No release {name} of run {run} with that sha256 awaits review.",
                action="It was decided before.",
            )
        await self.database.make_durable()
        self._tell()
        await self.audit.record(
            AuditEvent(
                f"release-{state}", approve, f"reviewer {reviewer}", run, what=f"{name} sha256 {sha256}", reason=reason
            )
        )

    async def keep_cells(self, key: str, cells: Iterable[Cell]) -> None:
        """What the ledger remembers when the release of that key leaves."""
        packed = await asyncio.to_thread(ledger.packed, cells)
        await self.area.upload(key + CELLS, io.BytesIO(packed), "application/gzip")

    async def _cells(self, key: str) -> list[Cell] | None:
        """None of a release that waits since before cells were kept beside it: the ledger has them."""
        file = io.BytesIO()
        try:
            await self.area.download(key + CELLS, file, 2**31)
        except ProblemError as error:
            if error.problem.status != 404:
                raise
            return None
        return await asyncio.to_thread(ledger.unpacked, file.getvalue())

    async def _remember(self, connection: AsyncConnection, row: sa.Row[Any], cells: list[Cell] | None) -> None:
        """Its numbers leave now. ProblemError 409 where what left meanwhile may tell something beside them."""
        names = row.answer.get(AT_NODE, {}).get("cohort", [])
        if await ledger.left_since(connection, names, row):
            raise ProblemError(
                409,
                "rules-changed",
                "Something else of the same people left since this release was checked.",
                action="Refuse it, and start a new run.",
            )
        if cells is not None:
            sets = await ledger.datasets_id(connection, names)
            await ledger.write(connection, sets, str(row.answer["kind"]), cells, row.number)

    async def expire(self) -> int:
        """Refuses what nobody looked at for `review_days`, and frees what it held. How many that were."""
        c, until = db.releases.c, time.time() - self.policy.current().review_days * 86_400
        async with self.database.write() as connection:
            query = sa.select(db.releases).where(c.state == WAITING, c.time < until).with_for_update()
            expired = list(await connection.execute(query))
            for row in expired:
                await self._settle(connection, row, "refused", "nobody", "nobody looked at it in time")
        for row in expired:
            what = f"{row.name} sha256 {row.answer['sha256']}"
            await self.audit.record(AuditEvent("release-expired", False, "gateway", row.run, what=what))
        if expired:
            self._tell()
        return len(expired)

    async def _settle(
        self, connection: AsyncConnection, row: sa.Row[Any], state: str, reviewer: str, reason: str
    ) -> None:
        c = db.releases.c
        await connection.execute(
            sa.update(db.releases).where(c.number == row.number).values(state=state, reviewer=reviewer)
        )
        review = sa.update(db.reviews).where(db.reviews.c.release == row.number)
        await connection.execute(review.values(reason=reason, decided_at=time.time()))
        if state == "refused":
            await self._free(connection, row)
            await budget.give_back(connection, row.number)

    async def _still_open(self, connection: AsyncConnection, row: sa.Row[Any]) -> None:
        """ProblemError where the node would not release it any more as it was checked: policy, descriptors and epochs
        of now, in the transaction that publishes. What left meanwhile was judged beside the cells that it holds.
        """
        if (request := (row.asked or {}).get("question")) is not None:
            admission = AdmissionQuestion.model_validate(request)
            await question.admit(self.policy, connection, admission)
            if not self.policy.current().may_still_leave(admission.workflow, admission.digest):
                raise ProblemError(
                    409,
                    "rules-changed",
                    "This node's policy does not approve the release's workflow any more.",
                    action="Refuse it.",
                )
        if row.answer.get(AT_NODE, {}).get("floor", 0) < self.policy.current().floor and row.asked:
            raise ProblemError(
                409,
                "rules-changed",
                "The node's floor was raised since this release was checked.",
                action="Refuse it, and start a new run.",
            )

    def _tell(self) -> None:
        self._news.set()
        self._news = asyncio.Event()

    async def _free(self, connection: AsyncConnection, refused: sa.Row[Any]) -> None:
        """Forgets the cells of a release that was refused: nothing of it left, and nobody was answered by them."""
        cells = db.ledger_cells.c.release == refused.number
        await connection.execute(sa.delete(db.ledger_cells).where(cells))

    async def left_before(self, case: Case) -> list[Case]:
        """What left of the same cohort before, the latest first, at most 20."""
        c, cohort = db.releases.c, case.answer.get(AT_NODE, {}).get("cohort")
        query = sa.select(db.releases).where(c.number < case.number, c.state == "published").order_by(c.number.desc())
        found: list[Case] = []
        async with self.database.read() as connection:
            async for row in await connection.stream(query):
                if cohort is not None and row.answer.get(AT_NODE, {}).get("cohort") == cohort:
                    found.append(Case(row.number, row.run, row.name, row.key, row.answer, {}, row.time))
                    if len(found) == 20:
                        break
        return found

    async def state(self, run: str, name: str, wait: float) -> ReviewState:
        """`awaiting-review`, `published`, `refused` or `unknown`: of the run's latest release of that name, at the
        latest after `wait` seconds.
        """
        loop, c = asyncio.get_running_loop(), db.releases.c
        until = loop.time() + wait
        query = sa.select(c.state).where(c.run == run, c.name == name).order_by(c.number.desc()).limit(1)
        while True:
            news = self._news  # taken before looking: a decision in between is not missed
            async with self.database.read() as connection:
                state: ReviewState = (await connection.execute(query)).scalar_one_or_none() or "unknown"
            left = until - loop.time()
            if state != WAITING or left <= 0 or self._waiters >= MAX_WAITERS:
                return state
            self._waiters += 1
            try:
                await asyncio.wait_for(news.wait(), min(left, LOOK) if self.database.shared else left)
            except TimeoutError:
                continue
            finally:
                self._waiters -= 1


def _damaged() -> ProblemError:
    return ProblemError(
        502,
        "release-damaged",
        "The stored release is not what the run asked for.",
        action="Refuse it, and look at the node's storage.",
    )
