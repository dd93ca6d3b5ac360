"""Access committees at the broker: who may look, what they see, and that a stop holds wherever tokens are given."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from gdi.broker_client.client import BrokerClient
from gdi.contracts import broker_api as m
from gdi.contracts.committees import Departure
from tests.support.broker_kit import DATASETS, USERS, World, refused
from tests.support.waiting import wait_for

pytest_plugins = ["tests.support.broker_fixtures"]
SHA = "b" * 64
HALF = {"name": "dac-a", "title": "Committee of A", "members": [USERS["bob"]], "datasets": [DATASETS["node-a"]]}


class Member:
    """A member's HTTP client at the broker."""

    def __init__(self, world: World, user: str) -> None:
        token = world.sign_in(user).access_token
        headers = {"Authorization": f"Bearer {token}"}
        self.http = httpx.Client(base_url=world.url(), headers=headers, trust_env=False, timeout=60)

    def ask(self, method: str, path: str, status: int = 200, **options: Any) -> Any:
        answer = self.http.request(method, f"/v1/committees{path}", **options)
        assert answer.status_code == status, answer.text
        return answer.json()


@pytest.fixture
def committees(world: World) -> Iterator[World]:
    """Bob is the committee of node-a's dataset, and of no other."""
    world.enrol(world.enrolment() | {"committees": [HALF]})
    probe = Member(world, "bob")
    wait_for("the enrolment is read", lambda: probe.http.get("/v1/committees").status_code == 200, 30)
    yield world
    for stop in probe.ask("GET", "/stops")["stops"]:
        if stop["person"] and not stop["lifted_at"]:
            probe.ask("DELETE", f"/stops/{stop['id']}")
    world.enrol()


def test_only_members_look_and_only_at_their_own_datasets(committees: World, alice: BrokerClient) -> None:
    world = committees
    outsider, bob = Member(world, "alice"), Member(world, "bob")
    for method, path in (("GET", ""), ("GET", "/uses"), ("GET", "/stops"), ("DELETE", "/stops/1")):
        assert outsider.ask(method, path, 403)["type"].endswith("forbidden")
    assert outsider.ask("POST", "/dac-a/stops", 403, json={"run": "r-" + "0" * 20, "reason": "why not"})["action"]
    assert httpx.get(world.url() + "/v1/committees/uses", trust_env=False).status_code == 401
    assert bob.http.get("/v1/me").json()["committees"] == ["dac-a"]
    assert outsider.http.get("/v1/me").json()["committees"] == []

    _, run = world.started(alice)
    uses = bob.ask("GET", "/uses", params={"run": run.id})["uses"]
    assert [(u["dataset"], u["user"], u["workflow"], u["allowed"], u["state"]) for u in uses] == [
        (DATASETS["node-a"], USERS["alice"], "allele-frequency", True, "open")
    ], "node-b's dataset is another committee's"
    assert uses[0]["visa"]["value"] == DATASETS["node-a"]
    left = [
        Departure(node=node, name="counts", kind="allele-counts", count=7, bytes=99, sha256=SHA) for node in DATASETS
    ]
    with world.airflow() as airflow:
        airflow.close_run(run.id, m.CloseRequest(attempt=1, outcome="success", released=left))
    (use,) = bob.ask("GET", "/uses", params={"run": run.id})["uses"]
    assert (use["outcome"], [(r["node"], r["count"]) for r in use["released"]]) == ("success", [("node-a", 7)])
    assert bob.ask("GET", "/uses", params={"run": run.id, "refused": True})["uses"] == []
    assert bob.ask("GET", "/uses", params={"dataset": DATASETS["node-b"]})["uses"] == []
    for wrong in ({"limit": 0}, {"run": "x"}, {"since": "nan"}, {"before": 0}, {"dataset": "a b"}):
        assert bob.http.get("/v1/committees/uses", params=wrong).status_code == 422
    first = bob.ask("GET", "/uses", params={"limit": 1})
    world.started(alice)
    more = bob.ask("GET", "/uses", params={"limit": 1})
    assert more["next_before"] is not None and more["uses"][0]["number"] > first["uses"][0]["number"]


def test_a_stopped_run_gets_no_token_any_more(committees: World, alice: BrokerClient) -> None:
    world, bob = committees, Member(committees, "bob")
    _, run = world.started(alice)
    world.workload(run, f"{run.id}-node-a-1-1")
    pod = world.pod(f"{run.id}-node-a-1-1")
    asked = m.TokenRequest(audience=world.audience(run), min_ttl=5)
    assert pod.token(run.id, asked).token
    for wrong in ({}, {"run": run.id, "person": "x", "reason": "both"}, {"run": run.id, "reason": ""}):
        bob.ask("POST", "/dac-a/stops", 422, json=wrong)
    bob.ask("POST", "/dac-b/stops", 403, json={"run": run.id, "reason": "not mine"})
    bob.ask("POST", "/dac-a/stops", 404, json={"run": "r-" + "0" * 20, "reason": "no such run"})
    made = bob.ask("POST", "/dac-a/stops", 201, json={"run": run.id, "reason": "Outside of the permit."})
    assert [r["id"] for r in made["runs"]] == [run.id]
    again = bob.ask("POST", "/dac-a/stops", 201, json={"run": run.id, "reason": "Asked twice."})
    assert again["stop"] == made["stop"]
    error = refused(pod.token, run.id, asked)
    assert error.slug == "stopped-by-committee" and "Outside of the permit." in str(error)
    answer = world.node_token("node-a", run.id)
    assert answer.status_code == 403 and answer.json()["type"].endswith("stopped-by-committee")
    with world.airflow() as airflow:  # it may still be closed, and not be opened again
        token = airflow.token(run.id, m.TokenRequest(audience=world.audience(run), min_ttl=5, scope="close"))
        assert token.token
        airflow.close_run(run.id, m.CloseRequest(attempt=1, outcome="cancelled"))
    request = world.admit_request(dag_run_id=run.dag_run_id, attempt=2)
    with world.airflow() as airflow:
        assert refused(airflow.admit, request).slug == "stopped-by-committee"
    bob.ask("DELETE", f"/stops/{made['stop']['id']}", 409)


def test_a_stopped_person_uses_the_committees_datasets_no_more(committees: World, alice: BrokerClient) -> None:
    world, bob = committees, Member(committees, "bob")
    _, run = world.started(alice)
    world.workload(run, f"{run.id}-node-b-1-1", node="node-b")
    made = bob.ask("POST", "/dac-a/stops", 201, json={"person": USERS["alice"], "reason": "Left the institute."})
    assert run.id in [r["id"] for r in made["runs"]]
    pod = world.pod(f"{run.id}-node-b-1-1")
    request = m.TokenRequest(audience=world.audience(run, "node-b"), min_ttl=5)
    assert refused(pod.token, run.id, request).slug == "stopped-by-committee", "the run as a whole ends"
    grant = world.grant(alice)
    error = refused(world.admit, world.ticket(alice, grant.id))
    assert error.slug == "access-denied" and "stopped-by-committee" in str(error)
    refusals = (error.problem.model_extra or {})["refusals"]
    assert [(r["dataset"], r["reason"]) for r in refusals] == [(DATASETS["node-a"], "stopped-by-committee")]
    listed = Member(world, "alice").http.get("/v1/datasets").json()["datasets"]
    assert {d["id"]: d["access"]["state"] for d in listed} == {
        DATASETS["node-a"]: "refused",
        DATASETS["node-b"]: "granted",
    }, "another committee's dataset stays usable"
    only = {"datasets": [DATASETS["node-b"]], "regions": 4}
    assert world.admit(world.ticket(alice, grant.id, only), parameters=only).state == "open"
    refused_uses = bob.ask("GET", "/uses", params={"refused": True, "user": USERS["alice"]})["uses"]
    assert refused_uses[0]["reason"] == "stopped-by-committee" and refused_uses[0]["state"] == "refused"
    lifted = bob.ask("DELETE", f"/stops/{made['stop']['id']}")
    assert lifted["lifted_by"] == USERS["bob"]
    assert world.admit(world.ticket(alice, grant.id)).state == "open"
    mine = Member(world, "alice").http.get("/v1/audit", params={"after": 0}).json()["entries"]
    told = [e for e in mine if e["action"] == "stopped"]
    assert {e["actor"] for e in told} == {"committee:dac-a"}, "no member's name reaches the person"
