"""Promise 8: user B can neither start under A's grant nor use A's ticket, nor a ticket twice, nor with other
parameters.
"""

from __future__ import annotations

import secrets
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

from gdi.broker_client.client import BrokerClient
from gdi.contracts import broker_api as m
from gdi.kit.problem import ProblemError
from tests.support.broker_kit import DATASETS, USERS, World, refused, wait_for


def test_a_ticket_starts_one_run_and_the_plan_names_each_node(world: World, alice: BrokerClient) -> None:
    grant, run = world.started(alice)
    assert run.state == "open" and run.user == USERS["alice"]
    assert [(p.node, p.datasets) for p in run.plan] == [(n, [d]) for n, d in DATASETS.items()]
    assert all(p.access_ends_at > time.time() for p in run.plan)
    assert alice.get_grant(grant.id).state == "active"


def test_a_ticket_serves_one_run_only(world: World, alice: BrokerClient) -> None:
    ticket = world.ticket(alice, world.grant(alice).id)
    world.admit(ticket)
    assert refused(world.admit, ticket).slug == "ticket-used"


def test_of_many_runs_that_show_one_ticket_at_once_exactly_one_starts(world: World, alice: BrokerClient) -> None:
    ticket = world.ticket(alice, world.grant(alice).id)

    def start(_: int) -> str:
        try:
            return world.admit(ticket).id
        except ProblemError as error:
            return error.slug

    with ThreadPoolExecutor(8) as pool:
        outcomes = list(pool.map(start, range(8)))
    assert sorted(o.startswith("r-") for o in outcomes) == [False] * 7 + [True]
    assert set(outcomes) - {o for o in outcomes if o.startswith("r-")} == {"ticket-used"}


def test_a_ticket_serves_its_own_parameters_workflow_and_run_id_only(world: World, alice: BrokerClient) -> None:
    grant = world.grant(alice, workflows=("allele-frequency", "other"))
    ticket = world.ticket(alice, grant.id, dag_run_id="portal-1")
    same = {"dag_run_id": "portal-1", "dag_id": f"d-{secrets.token_hex(4)}"}
    assert refused(world.admit, ticket, **same, parameters=world.parameters(regions=5)).slug == "ticket-mismatch"
    assert (
        refused(world.admit, ticket, **same, parameters={"datasets": [DATASETS["node-a"]], "regions": 4}).slug
        == "ticket-mismatch"
    )
    assert refused(world.admit, ticket, **same, workflow="other").slug == "ticket-mismatch"
    assert refused(world.admit, ticket, dag_run_id="portal-2").slug == "ticket-mismatch"
    # A mismatch does not use it up; a browser's 4.0 is the same number.
    assert world.admit(ticket, **same, parameters=world.parameters(regions=4.0)).state == "open"


def test_user_b_cannot_use_the_ticket_of_user_a(world: World, alice: BrokerClient) -> None:
    ticket = world.ticket(alice, world.grant(alice).id)
    assert refused(world.admit, ticket, triggering_user=USERS["bob"]).slug == "ticket-mismatch"
    assert world.admit(ticket, triggering_user="portal").user == USERS["alice"]


def test_user_b_can_neither_start_under_nor_see_nor_end_a_grant_of_user_a(
    world: World, alice: BrokerClient, bob: BrokerClient
) -> None:
    grant = world.grant(alice)
    assert refused(world.ticket, bob, grant.id).slug == "grant-not-yours"
    assert refused(world.admit, grant=grant.id, triggering_user=USERS["bob"]).slug == "grant-not-yours"
    assert refused(world.admit, grant=grant.id).slug == "grant-not-yours"
    assert refused(bob.get_grant, grant.id).slug == refused(bob.get_grant, "g-" + "0" * 32).slug == "grant-unknown"
    assert refused(bob.revoke_grant, grant.id).slug == "grant-unknown"
    assert world.admit(grant=grant.id, triggering_user=USERS["alice"]).user == USERS["alice"]


def test_user_b_cannot_look_at_a_run_of_user_a(world: World, alice: BrokerClient, bob: BrokerClient) -> None:
    _, run = world.started(alice)
    assert alice.get_run(run.id).id == run.id
    for look in (bob.get_run, bob.events, bob.progress):
        assert refused(look, run.id).slug == "run-unknown"
    assert bob.audit(run.id).entries == []
    assert {e.action for e in alice.audit(run.id).entries} >= {"run.admit", "run.open"}


def test_an_unknown_expired_or_missing_ticket_is_named_as_such(world: World, alice: BrokerClient) -> None:
    assert refused(world.admit, "gdit_" + "x" * 43).slug == "ticket-unknown"
    assert refused(world.admit).slug == "ticket-or-grant"
    for life in (1.5, 6, 24, 96):  # seconds; on a slow machine a short one is over before there is a ticket
        grant = world.grant(alice, days=life / 86400)
        with suppress(ProblemError):
            ticket = world.ticket(alice, grant.id)
            break
    time.sleep(max(0, grant.expires_at - time.time()))
    assert refused(world.admit, ticket).slug == "ticket-expired"
    assert refused(world.ticket, alice, grant.id).slug == "grant-inactive"


def test_consent_covers_only_what_it_names(world: World, alice: BrokerClient) -> None:
    grant = world.grant(alice, workflows=("other",), datasets=[DATASETS["node-a"]])
    assert refused(world.ticket, alice, grant.id).slug == "workflow-not-granted"
    grant = world.grant(alice, datasets=[DATASETS["node-a"]])
    assert refused(world.ticket, alice, grant.id).slug == "dataset-not-granted"


def test_a_grant_for_one_run_serves_one_run_and_its_later_attempts(world: World, alice: BrokerClient) -> None:
    grant = world.grant(alice, mode="once")
    tickets = [world.ticket(alice, grant.id) for _ in range(2)]
    run = world.admit(tickets[0], dag_run_id="once-" + grant.id)
    assert alice.get_grant(grant.id).state == "used"
    assert refused(world.admit, tickets[1]).slug == "grant-inactive"
    assert refused(world.ticket, alice, grant.id).slug == "grant-inactive"
    again = world.admit(dag_run_id="once-" + grant.id, attempt=2)
    assert (again.id, again.attempt) == (run.id, 2)


def test_admission_may_be_repeated_and_later_attempts_need_no_ticket(world: World, alice: BrokerClient) -> None:
    ticket = world.ticket(alice, world.grant(alice).id)
    same = {"dag_run_id": "again-" + secrets.token_hex(4)}
    first = world.admit(ticket, **same)
    assert world.admit(ticket, **same) == first
    with ThreadPoolExecutor(4) as pool:
        assert {r.opened_at for r in pool.map(lambda _: world.admit(ticket, **same), range(4))} == {first.opened_at}
    assert refused(world.admit, ticket, **same, parameters=world.parameters(regions=9)).slug == "run-mismatch"
    assert refused(world.admit, ticket, **same, digest="sha256:" + "b" * 64).slug == "run-mismatch"
    second = world.admit(None, **same, attempt=2)
    assert (second.id, second.attempt, second.state) == (first.id, 2, "open")
    assert refused(world.admit, ticket, **same).slug == "attempt-over"
    with world.airflow() as airflow:
        assert airflow.close_run(first.id, m.CloseRequest(attempt=1, outcome="failed")).state == "open", (
            "the end of an old attempt ends no newer one"
        )
        closed = airflow.close_run(first.id, m.CloseRequest(attempt=2, outcome="success"))
        assert (closed.state, closed.outcome) == ("closed", "success")
        assert airflow.close_run(first.id, m.CloseRequest(attempt=2, outcome="failed")) == closed
    assert refused(world.admit, ticket, **same, attempt=2).slug == "attempt-over"
    assert world.admit(None, **same, attempt=3).state == "open"


def test_only_airflow_admits_and_only_portals_users_make_grants(world: World, alice: BrokerClient) -> None:
    assert refused(alice.admit, world.admit_request("gdit_x")).slug == "forbidden"
    assert refused(world.gateway("node-a").admit, world.admit_request("gdit_x")).slug == "forbidden"
    assert refused(world.pod("p").admit, world.admit_request("gdit_x")).slug == "forbidden"
    assert refused(world.grant, world.user("alice", client="stranger")).slug == "unauthenticated"
    assert refused(world.grant, world.airflow()).slug == "forbidden"


def test_a_revoked_grant_denies_at_once_and_is_revoked_at_the_provider(world: World, alice: BrokerClient) -> None:
    grant, run = world.started(alice)
    spare = world.ticket(alice, grant.id)
    world.workload(run, "pod-revoked")
    assert world.node_token("node-a", run.id).status_code == 200
    before = world.stats()
    assert alice.revoke_grant(grant.id).state == "revoked"
    assert world.node_token("node-a", run.id).json()["type"].endswith("grant-inactive")
    assert refused(world.ticket, alice, grant.id).slug == "grant-inactive"
    assert refused(world.admit, spare).slug == "grant-inactive"
    assert (
        refused(world.pod("pod-revoked").token, run.id, m.TokenRequest(audience=world.audience(run))).slug
        == "grant-inactive"
    )
    with world.airflow() as airflow:  # what is left can still be cleaned up
        assert airflow.token(run.id, m.TokenRequest(audience=world.audience(run))).token
    wait_for("the provider heard of it", lambda: world.stats().get("revocations", 0) != before.get("revocations", 0))
    with world.bao.as_operator() as operator:
        wait_for(
            "the record is destroyed", lambda: operator.get(f"/v1/gdi/metadata/grants/{grant.id}").status_code == 404
        )
    assert alice.revoke_grant(grant.id).state == "revoked"
