"""The files of workflows: Airflow's workload uploads them, nodes get them. Kept as the very bytes that their digest is
of, so that both sides check them before anything is unpacked.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence

import sqlalchemy as sa

from gdi.contracts.packed_workflow import BadPackError, unpacked
from gdi.contracts.workflow import CatalogueError
from gdi.kit.canonical import sha256_hex
from gdi.kit.problem import ProblemError
from token_broker.db.store import BrokerDatabase, workflows
from token_broker.db.upsert import upsert

KEPT = 2000  # versions; who was not asked for the longest goes first


class WorkflowFiles:
    def __init__(self, store: BrokerDatabase) -> None:
        self._store = store

    async def put(self, digest: str, body: bytes) -> None:
        """422 `wrong-hash`, or `invalid-request` where they are no workflow's files."""
        if "sha256:" + await asyncio.to_thread(sha256_hex, body) != digest:
            raise ProblemError(
                422, "wrong-hash", "The body's SHA-256 is not the digest.", action="Send the files again, whole."
            )
        try:
            name = (await asyncio.to_thread(unpacked, body)).name
        except (BadPackError, CatalogueError) as error:
            raise ProblemError(422, "invalid-request", f"{error}.", action="Send a catalogue entry's files.") from None
        async with self._store.write() as c:
            row = {"digest": digest, "name": name, "body": body, "approvals": [], "used_at": time.time()}
            await upsert(c, workflows, [row], replace=("used_at",))
            old = sa.select(workflows.c.digest).order_by(workflows.c.used_at.desc()).offset(KEPT)
            if gone := list((await c.execute(old.limit(100))).scalars()):
                await c.execute(workflows.delete().where(workflows.c.digest.in_(gone)))

    async def missing(self, digests: Sequence[str]) -> list[str]:
        """Those of which nobody uploaded the files, in their order."""
        query = sa.select(workflows.c.digest).where(workflows.c.digest.in_(digests))
        async with self._store.read() as c:
            there = set((await c.execute(query)).scalars())
        return [digest for digest in dict.fromkeys(digests) if digest not in there]

    async def get(self, digest: str) -> bytes:
        """404 `workflow-unknown`."""
        async with self._store.read() as c:
            body = await c.scalar(sa.select(workflows.c.body).where(workflows.c.digest == digest))
        if body is None:
            raise ProblemError(
                404, "workflow-unknown", f"Nobody uploaded {digest}.", action="Airflow's workload uploads it."
            )
        return bytes(body)

    async def newest(self, name: str) -> str:
        """The digest of the version of this workflow that was used last. 404 `workflow-unknown`."""
        query = sa.select(workflows.c.digest).where(workflows.c.name == name).order_by(workflows.c.used_at.desc())
        async with self._store.read() as c:
            digest = await c.scalar(query.limit(1))
        if digest is None:
            raise ProblemError(
                404,
                "workflow-unknown",
                f"No version of {name} was uploaded.",
                action="Start it once.",
            )
        return str(digest)
