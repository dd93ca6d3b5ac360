"""A node that is late keeps its order, and its user's tokens, beyond the close of the run: until its deadline, or until
the consent ends. Others' orders end with the run.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from gdi.broker_client.client import BrokerClient
from gdi.contracts import broker_api as m
from gdi.contracts import orders as o
from gdi.contracts.gateway_api import Released, ReleaseRequest
from gdi.local_federation.openbao import OpenBao
from tests.support.broker_kit import DATASETS, USERS, refused
from tests.support.node_agent import AgentWorld
from tests.support.waiting import wait_for

pytest_plugins = ["tests.support.broker_fixtures"]
WANTED = [ReleaseRequest(name="counts", path="out/counts.json", kind="allele-counts")]


@pytest.fixture(scope="module")
def world(openbao: OpenBao, tmp_path_factory: pytest.TempPathFactory) -> Iterator[AgentWorld]:
    folder = tmp_path_factory.mktemp("late")
    made = AgentWorld(folder, openbao, broker_env={"RESULT_STORE": str(folder / "store")})
    made.start_broker()
    yield made
    made.stop()


def closed(world: AgentWorld, run: m.Run, late: list[str] | None, outcome: Any = "success") -> None:
    with world.airflow() as airflow:
        airflow.close_run(run.id, m.CloseRequest(attempt=run.attempt, outcome=outcome, late=late))


def status(world: AgentWorld, run: m.Run, kind: Any = "analyse") -> o.OrderStatus:
    with world.airflow() as airflow:
        return airflow.order(run.id, "node-a", kind, 1)


def parts(world: AgentWorld, run: m.Run) -> list[o.LatePart]:
    with world.airflow() as airflow:
        return [part for part in airflow.late_parts().parts if part.run.id == run.id]


def started(world: AgentWorld) -> tuple[BrokerClient, m.Grant, m.Run, o.OrderStatus]:
    alice = world.user("alice")
    grant, run = world.started(alice, mode="standing")
    taken = world.taken(run)
    world.order(run, "release", releases=WANTED)
    return alice, grant, run, taken


@pytest.mark.parametrize("late", [None, ["node-b"]])
def test_what_nobody_called_late_ends_with_its_run(world: AgentWorld, late: list[str] | None) -> None:
    _, _, run, _ = started(world)
    closed(world, run, late)
    wait_for("the end of its order", lambda: status(world, run).cancelling)
    assert world.node_token("node-a", run.id).status_code == 409
    assert not parts(world, run)


def test_of_a_run_that_failed_no_part_is_late(world: AgentWorld) -> None:
    _, _, run, _ = started(world)
    closed(world, run, ["node-a"], outcome="failed")
    wait_for("the end of its order", lambda: status(world, run).cancelling)


def test_a_late_node_goes_on_and_its_part_is_told_once_it_has_come(world: AgentWorld) -> None:
    _, _, run, taken = started(world)
    _, _, other, _ = started(world)
    closed(world, run, ["node-a"])
    closed(world, other, None)
    wait_for("a sweep", lambda: status(world, other).cancelling)
    assert not status(world, run).cancelling and not status(world, run, "release").cancelling
    assert world.node_token("node-a", run.id).status_code == 200
    with world.gateway("node-a") as gateway:
        assert gateway.get_run(run.id).state == "open", "for this node"
    with world.gateway("node-b") as gateway:
        assert gateway.get_run(run.id).state == "closed"
    with world.airflow() as airflow:
        assert airflow.get_run(run.id).state == "closed"
    assert not parts(world, run), "it has not come yet"

    world.report(taken, "succeeded")
    release = world.take(world.find(run, "release"))
    signed = Released(name="counts", kind="allele-counts", sha256="a" * 64, url="http://n", signature="s", bytes=7)
    world.report(release, "succeeded", released=[signed])
    (part,) = parts(world, run)
    assert (part.release.node, part.release.released) == ("node-a", [signed])
    assert world.node_token("node-a", run.id).status_code == 409, "it has nothing more to do"
    with world.airflow() as airflow:
        for _ in range(2):
            airflow.forget_late_part(run.id, "node-a", 1)
    assert not parts(world, run)
    assert refused(lambda: world.gateway("node-a").late_parts()).problem.status == 403


def test_a_late_nodes_order_ends_with_the_consent(world: AgentWorld) -> None:
    alice, grant, run, _ = started(world)
    closed(world, run, ["node-a"])
    alice.revoke_grant(grant.id)
    wait_for("the end of its order", lambda: status(world, run).cancelling)
    assert world.node_token("node-a", run.id).status_code in (403, 409)


@pytest.mark.parametrize("of", ["run", "person"])
@pytest.mark.parametrize("come", [False, True], ids=["at work", "come"])
def test_what_a_committee_stops_is_not_late_but_over(world: AgentWorld, of: str, come: bool) -> None:
    dac = {"name": "dac", "title": "Dac", "members": [USERS["bob"]], "datasets": [DATASETS["node-a"]]}
    world.enrol(world.enrolment() | {"committees": [dac]})
    token = world.sign_in("bob").access_token
    bob = httpx.Client(base_url=world.url(), headers={"Authorization": f"Bearer {token}"}, trust_env=False, timeout=60)
    wait_for("the enrolment is read", lambda: bob.get("/v1/committees").status_code == 200, 30)
    _, _, run, taken = started(world)
    closed(world, run, ["node-a"])
    if come:
        world.report(taken, "succeeded")
        signed = Released(name="counts", kind="allele-counts", sha256="c" * 64, url="http://n", signature="s", bytes=7)
        world.report(world.take(world.find(run, "release")), "succeeded", released=[signed])
    asked = {"run": run.id} if of == "run" else {"person": run.user}
    made = bob.post("/v1/committees/dac/stops", json={**asked, "reason": "Outside of the permit."})
    assert made.status_code == 201, made.text
    try:
        assert not parts(world, run), "no answer gets it"
        assert world.node_token("node-a", run.id).status_code in (403, 409)
        if not come:
            wait_for("the end of its order", lambda: status(world, run).cancelling)
            wait_for("the end of the next", lambda: status(world, run, "release").state == "cancelled")
            return
        left = bob.get("/v1/committees/uses", params={"run": run.id}).text
        assert "c" * 64 in left, "it had left, and the committee reads so"
    finally:
        if of == "person":
            bob.delete(f"/v1/committees/stops/{made.json()['stop']['id']}")
        world.enrol()


def test_a_later_attempt_ends_what_is_late_in_the_one_before(world: AgentWorld) -> None:
    _, _, run, taken = started(world)
    closed(world, run, ["node-a"])
    world.report(taken, "succeeded")
    with world.airflow() as airflow:
        again = world.admit_request(dag_run_id=run.dag_run_id, attempt=2, parameters=world.parameters())
        airflow.admit(again)
    wait_for("the end of its order", lambda: status(world, run, "release").state == "cancelled")
    assert not parts(world, run)
