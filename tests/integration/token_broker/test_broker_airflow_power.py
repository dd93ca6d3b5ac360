"""Airflow's identity alone starts nothing in a user's name, learns no grant, and can be split into scopes. Each rule:
its effect where it is off, its end where it is on.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any

import jwt
import pytest

from gdi.broker_client.client import BrokerClient
from gdi.contracts import broker_api as m
from tests.support.broker_kit import AIRFLOW, DATASETS, DIGEST, USERS, World, refused
from token_broker.grants.schedules import dag_run_id

pytest_plugins = ["tests.support.broker_fixtures"]


@pytest.fixture
def enrolled(world: World) -> Iterator[World]:
    yield world
    world.enrol()


def without(world: World, **changes: Any) -> dict[str, Any]:
    document = {**world.enrolment(), **changes}
    return {name: value for name, value in document.items() if value is not None}


def scoped(world: World, *scopes: str) -> dict[str, Any]:
    document = world.enrolment()
    document["workload_issuers"][0]["airflow_scopes"] = {AIRFLOW: list(scopes)}
    return document


def test_airflow_starts_under_a_grant_only_where_the_operator_believes_it(enrolled: World, alice: BrokerClient) -> None:
    grant = enrolled.grant(alice)
    run = enrolled.admit(grant=grant.id, triggering_user=USERS["alice"])
    assert run.user == USERS["alice"], "with the operator's reason Airflow's word suffices"
    enrolled.enrol(without(enrolled, believe_airflow_users=None))
    error = refused(enrolled.admit, grant=grant.id, triggering_user=USERS["alice"])
    assert (error.problem.status, error.slug) == (403, "ticket-needed")
    assert refused(enrolled.admit, grant="g-" + "0" * 32, triggering_user=USERS["alice"]).slug == "ticket-needed"
    assert enrolled.admit(enrolled.ticket(alice, grant.id)).user == USERS["alice"], "with a ticket it starts"


def test_airflow_reads_no_grant_ids_from_the_audit(world: World, alice: BrokerClient) -> None:
    grant, run = world.started(alice)
    page = f"/v1/audit?run={run.id}"
    own = alice._http.get(page).raise_for_status().text
    assert grant.id in own, "its user reads them"
    with world.airflow() as airflow:
        entries = airflow._http.get(page).raise_for_status().json()["entries"]
    assert len(entries) == len(json.loads(own)["entries"]) and grant.id not in json.dumps(entries)


def test_admission_closing_and_schedules_are_scopes_of_their_own(enrolled: World, alice: BrokerClient) -> None:
    grant, run = enrolled.started(alice)
    ticket = enrolled.ticket(alice, grant.id)
    with enrolled.airflow() as airflow:
        enrolled.enrol(scoped(enrolled, "close"))
        for call in (
            lambda: airflow.admit(enrolled.admit_request(ticket)),
            lambda: airflow.put_workload(run.id, "p-1", m.WorkloadRequest(node="node-a", attempt=1)),
            airflow.due_starts,
            lambda: airflow.token(run.id, m.TokenRequest(audience=enrolled.audience(run), scope="releases")),
        ):
            assert refused(call).slug == "missing-scope"
        enrolled.enrol(scoped(enrolled, "admit", "releases", "schedules"))
        assert refused(airflow.close_run, run.id, m.CloseRequest(attempt=1, outcome="success")).slug == "missing-scope"
        assert airflow.admit(enrolled.admit_request(ticket)).state == "open"
        enrolled.enrol()
        assert airflow.close_run(run.id, m.CloseRequest(attempt=1, outcome="success")).state == "closed"


def test_a_run_token_of_airflow_does_one_thing(world: World, alice: BrokerClient) -> None:
    _, run = world.started(alice)
    with world.airflow() as airflow:
        for scope, expected in (("releases", "releases"), ("close", "close"), (None, "releases close")):
            request = m.TokenRequest(audience=world.audience(run), scope=scope)
            claims = jwt.decode(airflow.token(run.id, request).token, options={"verify_signature": False})
            assert claims["scope"] == expected


def test_a_schedule_starts_one_version_of_its_workflow(world: World, alice: BrokerClient) -> None:
    other = "sha256:" + "b" * 64
    for fixed in (DIGEST, None):
        schedule = m.Schedule(
            workflow="allele-frequency",
            parameters={"datasets": list(DATASETS.values())},
            cron="*/5 * * * *",
            catch_up="all",
            digest=fixed,
        )
        grant = alice.create_grant(
            m.GrantRequest(
                workflows=["allele-frequency"],
                datasets=list(DATASETS.values()),
                expires_at=time.time() + 86400,
                schedule=schedule,
            )
        )
        first, second = due(world, grant.id, 2)
        if fixed is None:
            assert start(world, first).digest == DIGEST, "the first start fixes the version"
            error = refused(start, world, second, digest=other)
        else:
            error = refused(start, world, first, digest=other)
        assert (error.problem.status, error.slug) == (403, "workflow-changed")
        kept = alice.get_grant(grant.id).schedule
        assert kept and kept.state == "stopped" and kept.digest == DIGEST and "version" in kept.reason


def due(world: World, grant: str, count: int) -> list[m.DueStart]:
    """The grant's next starts, as if their time had come."""
    import sqlite3

    with sqlite3.connect(world.folder / "broker.db", timeout=60) as database:
        past = time.time() - 300 * count - 30
        database.execute("UPDATE schedules SET next_due = ? WHERE grant_id = ?", (past - past % 300, grant))
    with world.airflow() as airflow:
        return [one for one in airflow.due_starts().starts if one.dag_run_id == dag_run_id(grant, one.due)][:count]


def start(world: World, one: m.DueStart, digest: str = DIGEST) -> m.Run:
    return world.admit(one.ticket, dag_run_id=one.dag_run_id, parameters=one.parameters, digest=digest)
