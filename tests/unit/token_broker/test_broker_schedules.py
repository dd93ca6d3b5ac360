"""Schedules: each due start comes once, whoever asks at once and whatever crashes; catch-up is the grant's choice; what
ended stops and says why.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from pydantic import ValidationError

from gdi.contracts.grants import GrantRequest, Schedule, StartReport, TicketRequest
from gdi.kit.problem import ProblemError
from token_broker.audit import Audit
from token_broker.db.store import BrokerDatabase, grants, runs, schedules, starts, tickets
from token_broker.grants import scheduled
from token_broker.grants.grants import Grants
from token_broker.grants.parameters import hash_of
from token_broker.grants.schedules import LEASE, MAX_TRIES, Schedules, dag_run_id
from token_broker.grants.tickets import Tickets

GRANT, HOUR = "g-" + "a" * 32, 3600.0
NOW = 1_800_000_000.0 - 1_800_000_000.0 % HOUR  # a full hour
FAR = 4e9


class World:
    def __init__(self, store: BrokerDatabase) -> None:
        self.store, self.now = store, NOW + 60
        self.audit = Audit(store)
        # no provider is asked here
        self.tickets = Tickets(store, Grants(store, None, self.audit, 9e9), self.audit, 600)  # type: ignore[arg-type]
        self.schedules = self.replica()

    def replica(self) -> Schedules:
        return Schedules(self.store, self.tickets, self.audit, clock=lambda: self.now)

    async def grant(self, catch_up: Any = "latest", grant: str = GRANT, **changes: Any) -> None:
        wanted = Schedule(
            workflow="w", parameters={"datasets": ["D"]}, cron="0 * * * *", timezone="UTC", catch_up=catch_up
        )
        request = GrantRequest(workflows=["w"], datasets=["D"], expires_at=FAR, schedule=wanted)
        row = {
            "id": grant,
            "owner": "alice",
            "workflows": ["w"],
            "datasets": ["D"],
            "created_at": NOW,
            "expires_at": FAR,
            "mode": "standing",
            "label": "",
        }
        async with self.store.write() as c:
            await c.execute(
                grants.insert().values(**row, state="active", detail="", refreshes=0, refresh_due=FAR, revoke_tries=0)
            )
            await scheduled.insert(c, grant, request, self.now)
            if changes:
                await c.execute(grants.update().where(grants.c.id == grant).values(**changes))

    async def row(self, table: sa.Table, **where: Any) -> Any:
        async with self.store.read() as c:
            return (await c.execute(sa.select(table).filter_by(**where))).mappings().first()

    async def due(self) -> list[float]:
        return [s.due for s in await self.schedules.due()]


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    store = BrokerDatabase.open(f"sqlite+aiosqlite:///{tmp_path / 'b.db'}")
    await store.create()
    yield World(store)
    await store.close()


async def test_a_due_start_is_handed_out_once_with_a_ticket_for_that_run_only(world: World) -> None:
    await world.grant()
    assert await world.due() == []
    world.now = NOW + HOUR + 1
    (start,) = await world.schedules.due()
    assert (start.due, start.user, start.dag_run_id) == (
        NOW + HOUR,
        "alice",
        dag_run_id(GRANT, NOW + HOUR),
    ) and start.ticket not in repr(start)
    assert await world.due() == []
    use = {
        "workflow": "w",
        "phash": (await world.row(tickets))["parameters_hash"],
        "datasets": ["D"],
        "digest": "",
        "triggering_user": None,
        "portal_users": set(),
    }
    with pytest.raises(ProblemError, match="another Airflow run id"):
        await world.tickets.use(start.ticket, "r-1", dag_run_id="manual__1", **use)
    assert await world.tickets.use(start.ticket, "r-1", dag_run_id=start.dag_run_id, **use)


async def test_many_callers_at_once_get_each_start_once(world: World) -> None:
    ids = [f"g-{n:032x}" for n in range(8)]
    for grant in ids:
        await world.grant(grant=grant)
    world.now = NOW + HOUR + 1
    found = await asyncio.gather(*(world.replica().due() for _ in range(6)))
    names = {dag_run_id(grant, start.due) for grant in ids for part in found for start in part}
    assert sorted(s.dag_run_id for part in found for s in part) == sorted(names)
    assert not [s for part in found for s in part if any(grant[2:] in s.model_dump_json() for grant in ids)]


async def test_a_start_that_is_not_reported_comes_again_for_the_same_run_and_a_reported_one_does_not(
    world: World,
) -> None:
    await world.grant()
    world.now = NOW + HOUR + 1
    (first,) = await world.schedules.due()
    world.now += LEASE + 1
    (again,) = await world.schedules.due()
    assert again.dag_run_id == first.dag_run_id and again.ticket != first.ticket
    for _ in range(2):
        await world.schedules.report(StartReport(dag_run_id=again.dag_run_id, due=again.due, outcome="started"))
    world.now += LEASE + 1
    assert await world.due() == []


@pytest.mark.parametrize(("catch_up", "hours"), [("all", [1, 2, 3, 4, 5]), ("latest", [5]), ("none", [])])
async def test_what_was_missed_in_downtime_is_caught_up_as_the_grant_says(
    world: World, catch_up: str, hours: list[int]
) -> None:
    await world.grant(catch_up)
    world.now = NOW + 5.5 * HOUR
    assert await world.due() == [NOW + h * HOUR for h in hours]
    world.now = NOW + 6 * HOUR + 1
    assert NOW + 6 * HOUR in await world.due(), "and it goes on"


async def test_a_long_downtime_is_caught_up_in_bounded_parts(world: World) -> None:
    await world.grant("all")
    world.now = NOW + 120.5 * HOUR
    seen: list[float] = []
    while part := await world.due():
        assert len(part) <= 50
        seen += part
    assert seen == [NOW + h * HOUR for h in range(1, 121)]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"state": "revoked", "detail": "Revoked by the user."}, "revoked"),
        ({"state": "dead"}, "identity provider"),
        ({"expires_at": NOW + 90}, "expired"),
    ],
)
async def test_consent_that_ended_stops_the_schedule_and_says_why(
    world: World, changes: dict[str, Any], said: str
) -> None:
    await world.grant(**changes)
    world.now = NOW + HOUR + 1
    assert await world.due() == []
    row = await world.row(schedules)
    assert row["state"] == "stopped" and said in row["reason"]


async def test_access_that_ended_stops_the_schedule_and_says_why(world: World) -> None:
    await world.grant()
    world.now = NOW + HOUR + 1
    (start,) = await world.schedules.due()
    denied = ProblemError(403, "access-denied", "No access to D at node-a: its visa has ended (expired).")
    await world.schedules.run_refused(GRANT, "manual__1", denied)
    await world.schedules.run_refused(GRANT, start.dag_run_id, ProblemError(503, "provider-unavailable", "Later."))
    assert (await world.row(schedules))["state"] == "active", "neither another run nor an outage stops it"
    await world.schedules.run_refused(GRANT, start.dag_run_id, denied)
    row = await world.row(schedules)
    assert row["state"] == "stopped" and "its visa has ended" in row["reason"]
    world.now += 5 * HOUR
    assert await world.due() == []


async def test_what_airflow_never_starts_is_given_up_not_handed_out_for_ever(world: World) -> None:
    await world.grant()
    world.now = NOW + HOUR + 1
    for _ in range(MAX_TRIES):
        assert NOW + HOUR in await world.due()
        world.now += LEASE + 0.5
        async with world.store.write() as c:  # only this start
            await c.execute(schedules.update().values(next_due=FAR))
    assert await world.due() == [] and (await world.row(starts, due=NOW + HOUR))["state"] == "failed"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"mode": "once"}, "standing"),
        ({"workflows": ["other"]}, "workflow w is not"),
        ({"datasets": ["X"]}, "not among those of the grant: D"),
        ({"schedule": {"workflow": "w", "parameters": {"datasets": ["D"]}, "cron": "* * * * *"}}, "more often"),
    ],
)
def test_a_schedule_beyond_its_grant_is_refused_before_consent_is_kept(changes: dict[str, Any], said: str) -> None:
    wanted = {"workflow": "w", "parameters": {"datasets": ["D"]}, "cron": "0 6 * * *", "timezone": "Europe/Stockholm"}
    given = {"workflows": ["w"], "datasets": ["D"], "expires_at": FAR, "schedule": wanted, **changes}
    with pytest.raises(ProblemError, match=said):
        scheduled.check(GrantRequest.model_validate(given), NOW)


async def test_parameters_that_airflow_refuses_stop_the_schedule_with_the_reason(world: World) -> None:
    await world.grant()
    world.now += HOUR
    (start,) = await world.schedules.due()
    detail = "Invalid input for param regions: 'x' is not of type 'integer'"
    report = StartReport(dag_run_id=start.dag_run_id, due=start.due, outcome="refused", detail=detail)
    for _ in range(2):  # saying it twice changes nothing
        await world.schedules.report(report)
    row = await world.row(schedules, grant_id=GRANT)
    assert row["state"] == "stopped" and detail in row["reason"] and "Stopped at the start of 20" in row["reason"]
    world.now += 10 * HOUR
    assert await world.due() == []


async def test_a_start_that_was_given_up_is_said_at_the_schedule_until_one_is_made(world: World) -> None:
    await world.grant()
    world.now += HOUR
    for _ in range(MAX_TRIES + 1):
        await world.schedules.due()
        world.now += LEASE + 1
    row = await world.row(schedules, grant_id=GRANT)
    assert row["state"] == "active" and "could not start it" in row["reason"]
    world.now += HOUR
    (start, *_) = await world.schedules.due()
    await world.schedules.report(StartReport(dag_run_id=start.dag_run_id, due=start.due, outcome="started"))
    assert (await world.row(schedules, grant_id=GRANT))["reason"] == ""


async def ended(world: World, outcome: str, reason: str = "") -> None:
    """The next scheduled run, as it ended."""
    world.now += HOUR
    (start,) = await world.schedules.due()
    await world.schedules.report(StartReport(dag_run_id=start.dag_run_id, due=start.due, outcome="started"))
    number = int(start.due // HOUR) % 10_000
    row = {
        "id": f"r-{number:020x}",
        "dag_id": "w",
        "dag_run_id": start.dag_run_id,
        "attempt": 1,
        "state": "closed",
        "outcome": outcome,
        "workflow": "w",
        "digest": "sha256:" + "a" * 64,
        "owner": "alice",
        "grant_id": GRANT,
        "parameters_hash": "h",
        "datasets": ["D"],
        "plan": [],
        "failing": {"node": "node-a", "reason": reason} if reason else None,
        "opened_at": world.now,
        "event_count": 0,
    }
    async with world.store.write() as c:
        await c.execute(runs.insert().values(**row))
    await world.schedules.run_closed(GRANT, start.dag_run_id)


async def test_three_runs_in_a_row_that_fail_stop_the_schedule_and_each_is_said(world: World) -> None:
    await world.grant()
    await ended(world, "failed", "a bad row")
    row = await world.row(schedules, grant_id=GRANT)
    assert row["state"] == "active" and row["reason"].endswith("failed: node-a: a bad row.")
    await ended(world, "failed")
    await ended(world, "cancelled")  # by its user: counts neither way
    assert (await world.row(schedules, grant_id=GRANT))["state"] == "active"
    await ended(world, "success")
    assert (await world.row(schedules, grant_id=GRANT))["reason"] == ""
    await ended(world, "failed")
    await ended(world, "failed")
    assert (await world.row(schedules, grant_id=GRANT))["state"] == "active"
    await ended(world, "failed", "the same\nagain")
    row = await world.row(schedules, grant_id=GRANT)
    assert row["state"] == "stopped" and row["reason"].startswith("Stopped after 3 runs in a row that failed.")
    assert "node-a: the same" in row["reason"] and "set it up again" in row["reason"]
    world.now += HOUR
    assert await world.due() == []


async def test_a_run_by_hand_that_fails_says_nothing_at_the_schedule(world: World) -> None:
    await world.grant()
    await world.schedules.run_closed(GRANT, "manual__1")
    assert (await world.row(schedules, grant_id=GRANT))["reason"] == ""


@pytest.mark.parametrize("bound", [False, True])
@pytest.mark.parametrize(("run_after", "serves"), [(-700.0, True), (-1.0, False), (None, False), (9e9, False)])
async def test_a_start_that_airflow_has_taken_does_not_expire(
    world: World, bound: bool, run_after: float | None, serves: bool
) -> None:
    """The ticket ended ten minutes ago; the run was taken before, and waited for its turn."""
    await world.grant()
    wanted = TicketRequest(workflow="w", parameters={"datasets": ["D"]}, dag_run_id="run-1" if bound else None)
    ticket = (await world.tickets.create(GRANT, "alice", wanted, actor="x", lifetime=-600)).ticket
    taken = None if run_after is None else time.time() + run_after
    use = world.tickets.use(
        ticket,
        "r-1",
        workflow="w",
        phash=hash_of(wanted.parameters),
        datasets=["D"],
        digest="",
        dag_run_id="run-1",
        run_after=taken,
        triggering_user="alice",
        portal_users=set(),
    )
    if serves or bound:
        assert (await use)["grant_id"] == GRANT
    else:
        with pytest.raises(ProblemError, match="before the run was to begin"):
            await use


@pytest.mark.parametrize(
    ("name", "good"),
    [
        ("manual__2026-11-30T00:00:00+00:00", True),
        ("a", True),
        ("the-one", True),
        ("x" * 248, True),
        ("x" * 249, False),
        ("x" * 250, False),
        ("x" * 251, False),
        ("", False),
        (" ", False),
        ("a b", False),
        ("a/b", False),
        ("../x", False),
        ("a\n", False),
        ("a\x00", False),
        ("\u00e9", False),
        ("a@b", False),
    ],
)
def test_a_run_id_is_judged_when_the_ticket_is_made(name: str, good: bool) -> None:
    fields = {"workflow": "w", "parameters": {"datasets": ["D"]}, "dag_run_id": name}
    if good:
        assert TicketRequest.model_validate(fields).dag_run_id == name
    else:
        with pytest.raises(ValidationError, match="dag_run_id"):
            TicketRequest.model_validate(fields)
    assert TicketRequest.model_validate({**fields, "dag_run_id": dag_run_id(GRANT, NOW)}), "our own are such"
