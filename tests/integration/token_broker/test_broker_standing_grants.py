"""A standing grant with a schedule, over the broker's API: starts come with a ticket that admits that run, and end with
access, told to the user.
"""

from __future__ import annotations

import sqlite3
import time

import pytest

from gdi.broker_client.client import BrokerClient
from gdi.contracts import broker_api as m
from gdi.kit.problem import ProblemError
from tests.support.broker_kit import DATASETS, World
from token_broker.grants.schedules import dag_run_id

pytestmark = pytest.mark.long

pytest_plugins = ["tests.support.broker_fixtures"]


def scheduled(world: World, user: BrokerClient) -> m.Grant:
    wanted = m.Schedule(
        workflow="allele-frequency", parameters=world.parameters(), cron="0 6 * * *", timezone="Europe/Stockholm"
    )
    return world.grant(user, schedule=wanted)


def fall_due(world: World, grant: str, ago: float = 1) -> None:
    """Its next start is now: what the clock would do. A start's run id names its second, so two of them need another
    `ago`.
    """
    with sqlite3.connect(world.folder / "broker.db", timeout=15) as db:
        db.execute("UPDATE schedules SET next_due = ? WHERE grant_id = ?", (time.time() - ago, grant))


def due(world: World, grant: str) -> list[m.DueStart]:
    with world.airflow() as airflow:
        return [s for s in airflow.due_starts().starts if s.dag_run_id == dag_run_id(grant, s.due)]


def admit(world: World, start: m.DueStart) -> m.Run:
    return world.admit(start.ticket, dag_run_id=start.dag_run_id, workflow=start.workflow, parameters=start.parameters)


def test_a_scheduled_start_is_admitted_with_its_ticket_until_access_ends_and_the_user_is_told(
    world: World, alice: BrokerClient
) -> None:
    grant = scheduled(world, alice)
    assert grant.schedule is not None and grant.schedule.state == "active" and grant.schedule.next_due
    assert due(world, grant.id) == []
    fall_due(world, grant.id, ago=60)
    (start,) = due(world, grant.id)
    assert due(world, grant.id) == []
    with pytest.raises(ProblemError, match="another Airflow run id"):
        world.admit(start.ticket, parameters=start.parameters)
    run = admit(world, start)
    assert run.state == "open" and run.user == grant.user
    with world.airflow() as airflow:
        airflow.report_start(m.StartReport(dag_run_id=start.dag_run_id, due=start.due, outcome="started"))
        assert run.id in [r.id for r in airflow.open_runs(after=run.id[:-1]).runs]
    world.withdraw("alice", DATASETS["node-a"])
    try:
        fall_due(world, grant.id)
        (again,) = due(world, grant.id)
        with pytest.raises(ProblemError, match="No access to"):
            admit(world, again)
    finally:
        world.entitle("alice", DATASETS["node-a"])
    told = alice.get_grant(grant.id).schedule
    assert told is not None and told.state == "stopped" and "No access to" in told.reason and told.next_due is None


def test_a_revoked_grant_starts_nothing_more(world: World, alice: BrokerClient) -> None:
    grant = scheduled(world, alice)
    fall_due(world, grant.id)
    alice.revoke_grant(grant.id)
    assert due(world, grant.id) == []
    told = alice.get_grant(grant.id).schedule
    assert told is not None and told.state == "stopped" and "revoked" in told.reason


def test_a_schedule_that_asks_for_too_much_makes_no_grant(world: World, alice: BrokerClient) -> None:
    wanted = m.Schedule(workflow="allele-frequency", parameters={"datasets": ["EGAD-OTHER"]}, cron="0 6 * * *")
    with pytest.raises(ProblemError, match="not among those of the grant: EGAD-OTHER"):
        world.grant(alice, schedule=wanted)


def test_only_airflow_may_ask_what_is_due_and_what_is_open(world: World, alice: BrokerClient) -> None:
    for call in (alice.due_starts, alice.open_runs, world.gateway("node-a").due_starts, world.pod("p").due_starts):
        with pytest.raises(ProblemError) as refused:
            call()
        assert refused.value.problem.status == 403
