"""What an operator can ask of the audit, and what a forged one cannot hide."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from node_gateway import audit_search
from node_gateway.audit import Audit, AuditEvent
from node_gateway.audit_search import AuditFilter, AuditRefused
from node_gateway.db.store import GatewayDatabase

EVENTS = [
    AuditEvent("task-created", True, "alice pod-1", "r-1", 1, "t1", what="count"),
    AuditEvent("read", True, "tes", "r-1", 1, "t1", "DS-A", "GET sda://DS-A/x.c4gh (5 bytes)"),
    AuditEvent("read", False, "tes", "r-2", 1, "t2", "DS-B", "sda://DS-B/x.c4gh", "AccessDenied: withdrawn"),
    AuditEvent("read", False, "bob", "r-2", 1, "t2", "DS-B", "x\x1b[2J\u202e", "RunClosed: it is closed"),
]


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[GatewayDatabase]:
    made = GatewayDatabase.open(f"sqlite+aiosqlite:///{tmp_path / 'gateway.db'}")
    await made.create()
    for event in EVENTS:
        await Audit(made).record(event)
    yield made
    await made.close()


async def found(database: GatewayDatabase, wanted: AuditFilter, limit: int = 100) -> list[int]:
    lines = audit_search.search(database, wanted, limit=limit, as_json=False)
    return [int(line.split()[0]) async for line in lines]


async def test_entries_are_found_by_whatever_is_given(database: GatewayDatabase) -> None:
    for wanted, numbers in (
        (AuditFilter(), [1, 2, 3, 4]),
        (AuditFilter(run="r-1"), [1, 2]),
        (AuditFilter(user="ALICE"), [1]),
        (AuditFilter(dataset="DS-B", refused=True), [3, 4]),
        (AuditFilter(action="read", text="WITHDRAWN"), [3]),
        (AuditFilter(text="ds-a"), [2]),
        (AuditFilter(run="r-"), []),
        (AuditFilter(since=audit_search.moment("1h")), [1, 2, 3, 4]),
        (AuditFilter(until=audit_search.moment("1h")), []),
    ):
        assert await found(database, wanted) == numbers, wanted
    assert await found(database, AuditFilter(), limit=2) == [1, 2]


async def test_what_strangers_wrote_cannot_move_the_terminal(database: GatewayDatabase) -> None:
    lines = [line async for line in audit_search.search(database, AuditFilter(), limit=9, as_json=False)]
    assert all(line.isprintable() for line in lines) and "REFUSED" in lines[3]


async def test_a_changed_entry_and_a_cut_end_are_seen(database: GatewayDatabase, tmp_path: Path) -> None:
    told = await audit_search.verify(database, None)
    assert told.startswith("4 entries follow each other")
    head = told.rpartition(" ")[2]
    await Audit(database).record(EVENTS[0])
    assert "5 entries" in await audit_search.verify(database, head), "what came later does not matter"
    with sqlite3.connect(tmp_path / "gateway.db") as plain:
        plain.execute("DROP TRIGGER audit_no_delete")
        plain.execute("DELETE FROM audit WHERE number >= 4")
    assert "3 entries" in await audit_search.verify(database, None), "the chain alone does not tell"
    with pytest.raises(ValueError, match="cut off"):
        await audit_search.verify(database, head)
    with sqlite3.connect(tmp_path / "gateway.db") as plain:
        plain.execute("DROP TRIGGER audit_no_update")
        plain.execute("UPDATE audit SET line = replace(line, 'DS-A', 'DS-C') WHERE number = 2")
    with pytest.raises(ValueError, match="entry 2"):
        await audit_search.verify(database, None)


@pytest.mark.parametrize("text", ["yesterday", "", "99999999h", "h", "2026-13-01"])
def test_a_time_that_is_none_says_how_it_is_written(text: str) -> None:
    with pytest.raises(AuditRefused, match="2026-11-30"):
        audit_search.moment(text)


@pytest.mark.parametrize("head", ["5", "x:" + "0" * 64, "0:" + "0" * 64, "5:abc"])
async def test_a_head_that_is_none_is_refused(database: GatewayDatabase, head: str) -> None:
    with pytest.raises(AuditRefused, match="NUMBER:HASH"):
        await audit_search.verify(database, head)
