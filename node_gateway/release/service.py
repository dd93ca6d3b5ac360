"""A release from the workspace to the release area: read, check, remember in the ledger, publish, sign. The same file
again gets the same answer.
"""

from __future__ import annotations

import asyncio
import hashlib
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import IO, Annotated, Any, Literal

import sqlalchemy as sa
from pydantic import BaseModel, ConfigDict, Field

from gdi.contracts.ids import Digest, ReleaseName, WorkflowName
from gdi.contracts.urls import WorkspaceUrl
from gdi.contracts.workflow import RelativePath
from gdi.kit.jose import SigningKey
from gdi.kit.problem import ProblemError
from node_gateway import database as db
from node_gateway.audit import Audit, Entry
from node_gateway.auth import Caller
from node_gateway.locations import check_path
from node_gateway.metrics import Metrics
from node_gateway.policy import Policy, PolicyFile
from node_gateway.release import ledger
from node_gateway.release.allele_counts import row_json, verdicts_of
from node_gateway.release.table import FORMAT, FormatError, Site, read
from node_gateway.review.service import SPOOL, Reviews
from node_gateway.workspace.bucket import Bucket

TEN_YEARS = 10 * 365.25 * 86400
JSON = "application/json"


class Request(BaseModel):
    """`POST /releases/{run}`: publish the workspace file `path` as `name` after `check`. `schema` is the workflow's
    own; the gateway's check decides.
    """

    model_config = ConfigDict(extra="ignore")
    name: ReleaseName
    path: RelativePath
    check: Literal["allele-counts"]
    schema_: dict[str, Any] | None = Field(default=None, alias="schema")
    workflow: WorkflowName | None = None
    digest: Digest | None = None
    attempt: Annotated[int, Field(ge=1)] | None = None
    review: bool = False  # the workflow asks that a person looks, whatever the node's policy says


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
    _one: asyncio.Lock = field(
        default_factory=asyncio.Lock
    )  # what two releases may tell together is judged one after the other

    async def ask(self, request: Request, caller: Caller) -> tuple[int, dict[str, Any]]:
        """(200, the release) or (202, awaiting review). ProblemError: 403 not allowed here, 404 no such file, 422
        `release-refused`.
        """
        policy = self.policy.current()
        self._allowed(request, caller, policy)
        async with self._one:
            with (
                tempfile.SpooledTemporaryFile(max_size=SPOOL) as source,
                tempfile.SpooledTemporaryFile(max_size=SPOOL) as published,
            ):
                digest = await self._fetch(request, caller, policy, source)
                known = await self._known(caller.run, request.name, digest)
                if known is None:
                    known = await self._publish(request, caller, policy, digest, source, published)
        answer: dict[str, Any] = known.answer
        if known.state == "refused":
            reason = await self.reviews.reason(known.number)
            raise refusal(["a person of the node looked at it and refused it" + (f": {reason}" if reason else "")])
        if known.state == "awaiting-review":
            return 202, {
                "status": "awaiting-review",
                "name": request.name,
            }  # no checksum: it would tell whether a guess of the content is right
        return 200, answer

    def _allowed(self, request: Request, caller: Caller, policy: Policy) -> None:
        if not policy.allows_workflow(caller.workflow, caller.digest):
            raise ProblemError(
                403,
                "forbidden-workflow",
                f"This node does not allow the workflow {caller.workflow}.",
                action="Ask the node's operator.",
            )
        if request.check not in policy.releases.checks:
            raise ProblemError(
                403,
                "forbidden-check",
                f"This node releases nothing by the check {request.check}.",
                action="Ask the node's operator.",
            )
        said = {"workflow": request.workflow, "digest": request.digest, "attempt": request.attempt}
        for name, value in said.items():
            if value is not None and value != getattr(caller, name):
                raise ProblemError(
                    403,
                    "release-mismatch",
                    f"The {name} asked for is not the run token's.",
                    action="Ask for the run's own releases only.",
                )
        check_path(request.path, str(WorkspaceUrl(caller.run, request.path)))

    async def _fetch(self, request: Request, caller: Caller, policy: Policy, into: IO[bytes]) -> str:
        """The file's SHA-256 (hex), its content in `into`."""
        size = await self.workspace.download(f"{caller.run}/{request.path}", into, policy.releases.max_bytes)
        if size > policy.releases.max_bytes:
            raise refusal(
                [f"the file is larger than {policy.releases.max_bytes} bytes, which is what this node looks at"]
            )
        into.seek(0)
        return await asyncio.to_thread(_sha256, into)

    async def _known(self, run: str, name: str, source: str) -> sa.Row[Any] | None:
        c = db.releases.c
        async with self.database.read() as connection:
            query = sa.select(db.releases).where(c.run == run, c.name == name, c.source_sha256 == source)
            return (await connection.execute(query)).first()

    async def _publish(
        self, request: Request, caller: Caller, policy: Policy, source: str, file: IO[bytes], out: IO[bytes]
    ) -> sa.Row[Any]:
        file.seek(0)
        try:
            sites = await asyncio.to_thread(read, file, max_rows=policy.releases.max_rows)
        except FormatError as error:
            self.metrics.releases.labels("refused").inc()
            raise refusal([str(error)]) from None
        passed, withheld = await self._judge(sites, caller, policy.floor)
        digest, size = await asyncio.to_thread(_write, out, passed, withheld)
        key = f"{caller.run}/{request.name}/{digest}.json"
        await self.area.upload(key, out, JSON)  # by its content's name: unknown to anyone until the row below is there
        claims: dict[str, Any] = {"iss": self.node, "aud": caller.run, "release": request.name, "sha256": digest}
        claims |= {"workflow": caller.workflow, "digest": caller.digest, "attempt": caller.attempt}
        answer = {
            "name": request.name,
            "sha256": digest,
            "bytes": size,
            "url": f"{self.public_url}/releases/{caller.run}/{request.name}",
            "signature": self.key.sign(claims, lifetime=TEN_YEARS, typ="release+jwt"),
            "sites_released": len(passed),
            "sites_withheld": sum(withheld.values()),
            "withheld": dict(sorted(withheld.items())),
        }
        state = "awaiting-review" if self.reviews.needed(request.review) else "published"
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
            result = await connection.execute(db.releases.insert().values(**values))
            await ledger.write(
                connection, await ledger.datasets_id(connection, caller.datasets), passed, _number(result)
            )
            if state != "published":
                await self.reviews.note(connection, _number(result), caller)
        await self.database.make_durable()
        self.metrics.releases.labels(state).inc()
        what = f"{request.name}: {len(passed)} sites, {answer['sites_withheld']} withheld, sha256 {digest}"
        await self.audit.record(
            Entry(
                f"release-{state}", True, caller.actor, caller.run, caller.attempt, what=what, workflow=caller.workflow
            )
        )
        known = await self._known(caller.run, request.name, source)
        assert known is not None
        return known

    async def _judge(self, sites: list[Site], caller: Caller, floor: int) -> tuple[list[Site], Counter[str]]:
        passed: list[Site] = []
        withheld: Counter[str] = Counter()
        async with self.database.read() as connection:
            sets = await ledger.related(connection, caller.datasets)
            for start in range(0, len(sites), ledger.BATCH):
                batch = sites[start : start + ledger.BATCH]
                before = await ledger.before(connection, sets, batch)
                verdicts = await asyncio.to_thread(verdicts_of, batch, floor, before)
                passed += [site for site, why in zip(batch, verdicts, strict=True) if not why]
                withheld.update(why for why in verdicts if why)
        return passed, withheld

    async def open(self, run: str, name: str) -> bytes:
        """The published bytes of the run's latest release of that name. ProblemError 404."""
        c = db.releases.c
        async with self.database.read() as connection:
            query = (
                sa.select(db.releases)
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
        with tempfile.SpooledTemporaryFile(max_size=SPOOL) as file:
            await self.area.download(row.key, file, 2**31)
            file.seek(0)
            data = file.read()
        if hashlib.sha256(data).hexdigest() != row.answer["sha256"]:
            raise ProblemError(
                502,
                "release-damaged",
                f"The stored release {name} is not what was signed.",
                action="Tell the node's operator.",
            )
        return data


def _number(result: sa.CursorResult[Any]) -> int:
    key = result.inserted_primary_key
    assert key is not None
    return int(key[0])


def _sha256(file: IO[bytes]) -> str:
    total = hashlib.sha256()
    while piece := file.read(1024 * 1024):
        total.update(piece)
    return total.hexdigest()


def refusal(reasons: list[str]) -> ProblemError:
    detail = f"The release was refused: {'; '.join(reasons)}."
    return ProblemError(422, "release-refused", detail, action="Correct what the workflow writes.", reasons=reasons)


def _write(out: IO[bytes], sites: list[Site], withheld: Counter[str]) -> tuple[str, int]:
    """Writes the published file; returns its SHA-256 (hex) and size."""
    total, size = hashlib.sha256(), 0

    def put(text: str) -> None:
        nonlocal size
        data = text.encode()
        total.update(data)
        size += out.write(data)

    put(f'{{"format":"{FORMAT}","sites":[')
    first = True
    for site in sites:
        for row in site.rows:
            put(("" if first else ",") + "\n" + row_json(row))
            first = False
    counts = ",".join(f'"{why}":{n}' for why, n in sorted(withheld.items()))
    put(f'\n],"withheld":{{{counts}}}}}\n')
    return total.hexdigest(), size
