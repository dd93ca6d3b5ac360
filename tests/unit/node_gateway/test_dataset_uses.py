"""What the node's committee finds by a dataset: who read it, and who was refused it."""

from __future__ import annotations

from pathlib import Path

import pytest

from node_gateway.audit import Audit, AuditEvent
from node_gateway.audit_search import AuditFilter
from node_gateway.db.store import GatewayDatabase
from node_gateway.uses import uses

READ, REFUSED, OTHER = ("r-" + digit * 20 for digit in "123")


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        (AuditFilter(dataset="D1"), {READ, REFUSED}),
        (AuditFilter(dataset="D1", refused=True), {REFUSED}),
        (AuditFilter(dataset="D2"), {OTHER}),
        (AuditFilter(dataset="D"), set()),
        (AuditFilter(refused=True), {REFUSED}),
        (AuditFilter(user="mallory"), {OTHER}),
    ],
)
async def test_a_refused_read_is_a_use_of_its_dataset(tmp_path: Path, wanted: AuditFilter, found: set[str]) -> None:
    database = GatewayDatabase.open(f"sqlite+aiosqlite:///{tmp_path / 'gateway.db'}")
    await database.create()
    audit = Audit(database)
    await audit.record(AuditEvent("read", True, "tes", READ, dataset="D1", what="file"))
    await audit.record(AuditEvent("read", False, "tes", REFUSED, dataset="D1", what="file", reason="AccessDenied: no"))
    await audit.record(AuditEvent("task-created", True, "mallory (pod x)", OTHER))
    await audit.record(AuditEvent("visa", True, "mallory", OTHER, dataset="D2", what="visa of D2"))
    await audit.record(AuditEvent("request", False, "anonymous", reason="unauthenticated", dataset="D1"))
    listed = await uses(database, wanted)
    assert {use.run for use in listed} == found
    assert all("AccessDenied" in use.refused[0] for use in listed if use.run == REFUSED)
    await database.close()
