"""Orders for a node's own agent: made once, signed with the user's visas, taken once, heard at once; releases in
chunks; nodes and preflight.
"""

from __future__ import annotations

import asyncio
import hashlib
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from gdi.broker_client.client import BrokerClient
from gdi.broker_client.node_agent import conflict_of
from gdi.contracts import broker_api as m
from gdi.contracts.cohorts import EpochCohorts
from gdi.contracts.gateway_api import Released, ReleaseRequest
from gdi.contracts.nodes import Heartbeat, PreflightReply, PreflightRequest
from gdi.contracts.orders import TYPE
from gdi.kit import tracing
from gdi.kit.jose import SigningKey, verify
from gdi.local_federation.openbao import OpenBao
from tests.support.broker_kit import DATASETS, USERS, refused, wait_for
from tests.support.node_agent import PACK, PACK_DIGEST, AgentWorld, claims_of
from tests.support.otlp_receiver import OtlpReceiver, otlp_receiver

pytest_plugins = ["tests.support.broker_fixtures"]


TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"


@pytest.fixture(scope="module")
def receiver() -> Iterator[OtlpReceiver]:
    with otlp_receiver() as made:
        yield made


@pytest.fixture(scope="module")
def world(openbao: OpenBao, tmp_path_factory: pytest.TempPathFactory, receiver: OtlpReceiver) -> Iterator[AgentWorld]:
    folder = tmp_path_factory.mktemp("orders")
    made = AgentWorld(folder, openbao, broker_env={"RESULT_STORE": str(folder / "store")})
    made.other_env = receiver.environment("token-broker")
    made.start_broker()
    yield made
    made.stop()


@pytest.fixture(scope="module")
def alice(world: AgentWorld) -> BrokerClient:
    return world.user("alice")


@pytest.fixture
def run(world: AgentWorld, alice: BrokerClient) -> m.Run:
    return world.started(alice, mode="standing")[1]


def beat(world: AgentWorld, node: str = "node-a", placement: Any = "node") -> None:
    heartbeat = Heartbeat(version="1", placement=placement, time=time.time(), health={"tes": "ok"}, free_slots=2)
    world.agent(node, lambda c: c.beat(node, heartbeat))


def test_the_plan_says_who_starts_snakemake(run: m.Run) -> None:
    assert {item.node: item.placement for item in run.plan} == {"node-a": "node", "node-b": "coordinator"}


def test_an_order_is_made_once_and_another_body_is_refused(world: AgentWorld, run: m.Run) -> None:
    first = world.order(run)
    assert (first.state, first.generation) == ("waiting", 0)
    assert world.order(run) == first
    assert conflict_of(refused(world.order, run, deadline=run.opened_at + 60)) == "order-differs"
    wrong = refused(world.order, run, parameters=world.parameters(regions=5))
    assert wrong.slug == "run-mismatch"


def test_what_waits_for_a_pod_at_the_coordinator_gets_no_order(world: AgentWorld, run: m.Run) -> None:
    with world.airflow() as airflow:
        assert refused(airflow.put_order, run.id, "node-b", "analyse", world.request(run)).slug == "placement-differs"
        assert refused(airflow.put_order, run.id, "node-c", "analyse", world.request(run)).slug == "node-not-in-plan"


def test_an_order_is_signed_and_carries_the_visas_themselves(world: AgentWorld, run: m.Run) -> None:
    world.order(run)
    item = world.find(run)
    keys = httpx.get(world.public_url + "/.well-known/jwks.json", trust_env=False).json()["keys"]
    claims = verify(item.order, keys, issuer=world.public_url, audience="node-a", typ=TYPE)
    assert (claims["run"], claims["sub"], claims["digest"]) == (run.id, run.user, run.digest)
    assert claims["datasets"] == [DATASETS["node-a"]]
    visas = [claims_of(visa) for visa in claims["visas"]]
    assert [visa["ga4gh_visa_v1"]["value"] for visa in visas] == [DATASETS["node-a"]]
    assert visas[0]["sub"] == USERS["alice"]


def test_an_order_is_taken_once_by_who_has_its_nonce(world: AgentWorld, run: m.Run) -> None:
    world.order(run)
    item = world.find(run)
    assert conflict_of(refused(world.take, item, "0" * 32)) == "order-nonce"
    assert world.take(item).generation == 1
    assert conflict_of(refused(world.take, item)) == "order-taken"


def test_each_change_is_an_event_and_shows_in_progress(world: AgentWorld, run: m.Run) -> None:
    status = world.taken(run)
    world.report(status, "running")
    world.report(status, "succeeded")
    assert conflict_of(refused(world.report, status, "failed")) == "order-over"
    with world.airflow() as airflow:
        events = airflow.events(run.id).events
        assert [e.order_state for e in events if e.kind == "order"] == ["waiting", "taken", "running", "succeeded"]
        progress = airflow.progress(run.id)
    assert [(o.node, o.kind, o.state) for o in progress.orders] == [("node-a", "analyse", "succeeded")]
    assert {n.node: n.state for n in progress.nodes} == {"node-a": "success", "node-b": "waiting"}


def test_a_refusal_names_its_reason_and_fails_the_run_that_needs_the_node(world: AgentWorld, run: m.Run) -> None:
    world.report(world.taken(run), "refused", reason="workflow-not-approved", detail="Nobody signed it.")
    with world.airflow() as airflow:
        failing = airflow.get_run(run.id).failing
    assert failing is not None and failing.node == "node-a"
    assert failing.reason == "the node refused: workflow-not-approved: Nobody signed it."


def test_only_the_nodes_that_must_answer_fail_a_run(world: AgentWorld, alice: BrokerClient) -> None:
    grant = world.grant(alice)
    parameters = world.parameters(nodes={"at_least": 1})
    run = world.admit(world.ticket(alice, grant.id, parameters), parameters=parameters)
    world.report(world.taken(run, parameters=parameters), "failed", detail="A disk is full.")
    with world.airflow() as airflow:
        assert airflow.get_run(run.id).failing is None
        assert {n.node: n.state for n in airflow.progress(run.id).nodes}["node-a"] == "failed"


def test_a_plan_that_cannot_have_the_nodes_is_refused(world: AgentWorld, alice: BrokerClient) -> None:
    for value in ({"at_least": 3}, ["node-z"], "some"):
        parameters = world.parameters(nodes=value)
        grant = world.grant(alice)
        error = refused(world.admit, world.ticket(alice, grant.id, parameters), parameters=parameters)
        assert (error.slug, error.problem.status) == ("bad-parameters", 422)


def test_an_order_and_its_cancel_reach_a_held_poll_within_two_seconds(world: AgentWorld, run: m.Run) -> None:
    after = world.work().next_after
    took: list[float] = []

    def held() -> None:
        found = world.work(after, wait=20)
        took.append(time.monotonic())
        assert [item.status.run for item in found.items] == [run.id]

    for act in (lambda: world.order(run), lambda: cancel(world, run)):
        waiting = threading.Thread(target=held)
        waiting.start()
        time.sleep(0.5)  # the poll is held by then, or asks after the news: both are well
        act()
        began = time.monotonic()
        waiting.join(20)
        assert took.pop() - began < 2
        after = world.work().next_after
        if not world.find(run).status.cancelling:
            world.take(world.find(run))
    assert world.find(run).status.cancelling == "a person ended it"


def test_a_consent_that_is_taken_back_ends_its_orders_at_the_held_poll(world: AgentWorld, alice: BrokerClient) -> None:
    grant, run = world.started(alice)
    status = world.taken(run)
    heard: list[tuple[float, str]] = []

    def held() -> None:
        after = world.work().next_after
        while not heard:
            found = world.work(after, wait=20)
            after = found.next_after
            mine = [item.status.cancelling for item in found.items if item.status.run == run.id]
            heard.extend((time.monotonic(), why) for why in mine if why)

    waiting = threading.Thread(target=held)
    waiting.start()
    time.sleep(0.5)  # the poll is held by then, or asks after the news: both are well
    began = time.monotonic()
    alice.revoke_grant(grant.id)
    waiting.join(20)
    ((at, why),) = heard
    assert why == "the user took the consent back"
    assert at - began < 10  # on a machine that has room for it: 2
    assert world.node_token("node-a", run.id).status_code in (403, 409)
    assert world.report(status, "cancelled").state == "cancelled"


def test_a_node_that_starts_snakemake_is_given_no_token_that_serves_elsewhere(
    world: AgentWorld, alice: BrokerClient, run: m.Run
) -> None:
    """What the operator accepted in writing is accepted for nodes of placement `coordinator` only."""
    world.broker_env["NARROWING"] = "accepted-broad"
    try:
        world.start_broker(1)
    finally:
        del world.broker_env["NARROWING"]
    answer = world.node_token("node-a", run.id, replica=1)
    assert (answer.status_code, answer.json()["type"]) == (403, "urn:gdi:problem:narrowing-refused")
    assert world.node_token("node-b", run.id, replica=1).status_code == 200
    ticket = world.ticket(alice, world.grant(alice).id)
    with world.airflow(1) as airflow:
        refusal = refused(airflow.admit, world.admit_request(ticket))
    assert refusal.slug == "narrowing-refused" and "node-a" in str(refusal)
    world.brokers.pop().stop()


def cancel(world: AgentWorld, run: m.Run) -> None:
    with world.airflow() as airflow:
        airflow.cancel_order(run.id, "node-a", "analyse", 1, "a person ended it")


def test_a_run_that_is_closed_asks_for_the_end_of_its_orders(world: AgentWorld, run: m.Run) -> None:
    status = world.taken(run)
    with world.airflow() as airflow:
        airflow.close_run(run.id, m.CloseRequest(attempt=1, outcome="failed"))
        end = time.monotonic() + 15
        while not airflow.order(run.id, "node-a", "analyse", 1).cancelling:
            assert time.monotonic() < end
            time.sleep(0.1)
    assert world.report(status, "cancelled").state == "cancelled"


def test_a_later_attempt_stops_the_one_before(world: AgentWorld, run: m.Run) -> None:
    first = world.taken(run)
    with world.airflow() as airflow:
        airflow.close_run(run.id, m.CloseRequest(attempt=1, outcome="failed"))
    again = world.admit(None, dag_run_id=run.dag_run_id, attempt=2)
    world.order(again)
    item = next(i for i in world.work().items if (i.status.run, i.status.attempt) == (run.id, 2))
    assert conflict_of(refused(world.take, item)) == "order-early"
    world.report(first, "cancelled")
    assert world.take(item).attempt == 2


def test_another_nodes_key_reads_and_changes_nothing(world: AgentWorld, run: m.Run) -> None:
    status = world.taken(run)
    assert refused(world.report, status, "succeeded", node="node-b").slug == "wrong-node"
    assert refused(world.agent, "node-b", lambda c: c.work("node-a", after=0, wait=0)).slug == "wrong-node"
    assert world.work(node="node-b").items == []


def test_workflows_files_are_those_of_their_digest(world: AgentWorld) -> None:
    with world.airflow() as airflow:
        assert refused(airflow.put_workflow, "sha256:" + "0" * 64, PACK).slug == "wrong-hash"
        other = b"Snakefile\x003\x00abc"
        digest = "sha256:" + hashlib.sha256(other).hexdigest()
        assert refused(airflow.put_workflow, digest, other).slug == "invalid-request"
        airflow.put_workflow(PACK_DIGEST, PACK)
        airflow.put_workflow(PACK_DIGEST, PACK)
        nobodys = "sha256:" + "2" * 64
        assert airflow.missing_workflows([nobodys, PACK_DIGEST, nobodys]) == [nobodys]
    with world.gateway("node-a") as gateway:
        assert refused(gateway.missing_workflows, [PACK_DIGEST]).slug == "forbidden", "for Airflow only"
    assert world.agent("node-a", lambda c: c.workflow(PACK_DIGEST)) == PACK
    assert refused(world.agent, "node-a", lambda c: c.workflow("sha256:" + "1" * 64)).slug == "workflow-unknown"


def test_a_release_comes_in_chunks_and_lies_under_its_checksum(world: AgentWorld, run: m.Run) -> None:
    data = b"0123456789" * 1000
    sha256 = hashlib.sha256(data).hexdigest()

    def put(offset: int, chunk: bytes, name: str = "counts", sha: str = sha256, node: str = "node-a") -> Any:
        return world.agent(
            node,
            lambda c: c.put_chunk(run.id, "node-a", name, sha, offset=offset, total=len(data), chunk=chunk),
        )

    assert refused(put, 0, data).slug == "order-unknown"  # nobody asked for it
    asked = ReleaseRequest(name="counts", path="counts.json", kind="allele-counts")
    status = world.taken(run, "release", releases=[asked])
    assert refused(put, 0, data, "other").slug == "order-unknown"
    assert refused(put, 0, data, node="node-b").slug == "wrong-node"
    assert put(0, data[:4000]).offset == 4000
    error = refused(put, 0, data[:4000])
    assert (error.slug, (error.problem.model_extra or {})["offset"]) == ("wrong-offset", 4000)
    assert world.agent("node-a", lambda c: c.offset(run.id, "node-a", "counts", sha256)).offset == 4000
    assert put(4000, data[4000:]).complete
    file = world.folder / "store" / "releases" / run.id / "node-a" / f"counts-{sha256}"
    assert file.read_bytes() == data
    assert put(0, data).complete  # again: nothing happens
    wrong = "0" * 64
    assert refused(put, 0, data, "counts", wrong).slug == "wrong-hash"
    assert sorted(path.name for path in file.parent.iterdir()) == [file.name]
    released = Released(name="counts", sha256=sha256, bytes=len(data), url="http://node-a/x", signature="s")
    assert world.report(status, "succeeded", released=[released]).released == [released]


def test_a_chunk_that_is_not_its_checksum_leaves_nothing(world: AgentWorld, run: m.Run) -> None:
    asked = ReleaseRequest(name="counts", path="counts.json", kind="allele-counts")
    world.taken(run, "release", releases=[asked])

    async def put(headers: dict[str, str]) -> int:
        async with httpx.AsyncClient(base_url=world.url(), trust_env=False) as http:
            answer = await http.put(
                f"/v1/runs/{run.id}/releases/node-a/counts",
                params={"sha256": "a" * 64, "offset": 0, "total": 9},
                content=b"something",
                headers={"Authorization": f"Bearer {world.assertion('node-a')}", **headers},
            )
            return answer.status_code

    assert asyncio.run(put({"Content-Digest": "sha-256=:" + "A" * 43 + "=:"})) == 422
    assert asyncio.run(put({"Content-Digest": "md5=x"})) == 422
    assert asyncio.run(put({})) == 422
    part = world.folder / "store" / "releases" / run.id / "node-a" / ("counts-" + "a" * 64 + ".part")
    assert not part.exists()


def test_nodes_say_how_they_are_and_one_never_seen_says_so(world: AgentWorld, alice: BrokerClient) -> None:
    beat(world)
    found = {node.node: node for node in alice.nodes().nodes}
    assert (found["node-a"].life, found["node-a"].health, found["node-a"].free_slots) == ("up", {"tes": "ok"}, 2)
    assert (found["node-b"].life, found["node-b"].placement) == ("never-seen", "coordinator")
    error = refused(world.agent, "node-a", lambda c: c.beat("node-a", _other()))
    assert error.slug == "placement-differs"
    assert refused(world.agent, "node-b", lambda c: c.beat("node-a", _other())).slug == "wrong-node"


def test_a_nodes_word_about_the_terms_and_cohorts_of_its_own_datasets_reaches_their_users(world: AgentWorld) -> None:
    terms = {DATASETS["node-a"]: ["DUO:0000042", "DUO:9999999"], DATASETS["node-b"]: ["DUO:0000004"]}
    by_sex = EpochCohorts(number=2, splits={"sex": ("female", "male")})
    cohorts = dict.fromkeys(DATASETS.values(), by_sex)
    heartbeat = Heartbeat(version="1", placement="node", time=time.time(), terms=terms, cohorts=cohorts)
    world.agent("node-a", lambda c: c.beat("node-a", heartbeat))
    headers = {"Authorization": f"Bearer {world.sign_in('alice').access_token}"}
    answer = httpx.get(world.url() + "/v1/datasets", headers=headers, trust_env=False, timeout=60)
    listed = {d["id"]: d for d in answer.raise_for_status().json()["datasets"]}
    found = {dataset: one["terms"] for dataset, one in listed.items()}
    assert listed[DATASETS["node-a"]]["cohorts"] == by_sex.model_dump(mode="json")
    assert listed[DATASETS["node-b"]]["cohorts"] is None
    assert found[DATASETS["node-a"]] == [
        {"code": "DUO:0000042", "label": "general research use"},
        {"code": "DUO:9999999", "label": ""},
    ]
    assert found[DATASETS["node-b"]] == [], "what another node says of it counts nothing"
    beat(world)


def test_a_runs_trace_goes_on_to_its_order_and_its_gateways(
    world: AgentWorld, alice: BrokerClient, receiver: OtlpReceiver
) -> None:
    def traced_run(run: m.Run) -> tuple[m.Run, str]:
        return world.agent("node-b", lambda c: c.get_traced_run(run.id))

    for traceparent, expected in (("00-no-trace-01", ""), (f"00-{TRACE}-00f067aa0ba902b7-01",) * 2):
        tracing.enter(traceparent)
        try:
            run = world.started(alice, mode="standing")[1]
            world.order(run)
        finally:
            tracing.enter("")
        assert claims_of(world.find(run).order).get("trace", "") == expected
        assert traced_run(run)[1] == expected
    names = ("POST /v1/runs", "PUT /v1/runs/{run}/orders/{node}/{kind}")
    wait_for("spans", lambda: {s.name for s in receiver.spans if s.trace == TRACE} >= set(names), 30)
    assert {s.service for s in receiver.spans} == {"token-broker"} and {s.trace for s in receiver.spans} == {TRACE}
    for secret in (run.id, USERS["alice"], DATASETS["node-a"], "gdit_", "Bearer"):
        assert secret.encode() not in receiver.raw, secret
    log = (world.folder / "broker-0.log").read_text()
    assert any("/v1/runs answered 200" in line and f"trace={TRACE}" in line for line in log.splitlines())


def _other() -> Heartbeat:
    return Heartbeat(version="1", placement="coordinator", time=time.time())


def test_preflight_asks_the_nodes_and_names_who_cannot_be_asked(world: AgentWorld, alice: BrokerClient) -> None:
    beat(world)
    with world.airflow() as airflow:
        airflow.put_workflow(PACK_DIGEST, PACK)
    after = world.work().next_after
    seen: list[dict[str, Any]] = []

    def node() -> None:
        question = world.work(after, wait=20).questions[0]
        seen.append(claims_of(question.question))
        reply = PreflightReply(admitted=False, reason="workflow-not-approved", queued=1)
        world.agent("node-a", lambda c: c.answer(question.id, "node-a", reply))

    answering = threading.Thread(target=node)
    answering.start()
    began = time.monotonic()
    datasets = [*DATASETS.values(), "EGAD-NOBODY"]
    signed = ["header.of-a-reviewers.signature"]
    answer = alice.preflight(PreflightRequest(workflow="allele-frequency", datasets=datasets, approvals=signed))
    assert time.monotonic() - began < 10
    answering.join()
    a, b = answer.nodes
    assert (a.node, a.admitted, a.reason, a.queued) == ("node-a", False, "workflow-not-approved", 1)
    assert (b.node, b.admitted, b.placement) == ("node-b", None, "coordinator")
    assert answer.refusals == [{"dataset": "EGAD-NOBODY", "node": None, "reason": "unknown-dataset"}]
    assert (seen[0]["sub"], seen[0]["digest"], len(seen[0]["visas"])) == (USERS["alice"], PACK_DIGEST, 1)
    assert seen[0]["approvals"] == signed


def test_orders_outlive_a_killed_broker(world: AgentWorld, run: m.Run) -> None:
    status = world.taken(run)
    world.brokers.pop().kill()
    world.start_broker()
    assert world.find(run).status.state == "taken"
    assert world.report(status, "succeeded").state == "succeeded"


def test_a_broker_without_a_store_takes_no_release(tmp_path: Path) -> None:
    from token_broker.orders.release_store import ReleaseStore

    store = ReleaseStore(None, 1)
    assert refused(asyncio.run, store.offset("r-" + "0" * 20, "n", "x", "0" * 64)).slug == "no-result-store"


def test_a_node_changes_its_key_with_both_in_force_for_a_while(world: AgentWorld, run: m.Run) -> None:
    old, new = world.node_keys["node-a"], SigningKey.generate()

    def enrolled(now: SigningKey, *others: SigningKey) -> None:
        document = world.enrolment()
        document["nodes"][0] |= {"public_key": now.jwk(), "other_keys": [key.jwk() for key in others]}
        world.enrol(document)

    try:
        enrolled(old, new)
        beat(world)
        world.node_keys["node-a"] = new
        beat(world)
        enrolled(new)
        beat(world)
        world.node_keys["node-a"] = old
        assert refused(world.agent, "node-a", lambda c: c.beat("node-a", _other())).problem.status == 401
    finally:
        world.node_keys["node-a"] = old
        world.enrol()
    with world.gateway("node-a") as gateway:  # of the first version, it knows one key
        assert "other_keys" not in gateway._http.get(f"/v1/runs/{run.id}").json()["plan"][0]
