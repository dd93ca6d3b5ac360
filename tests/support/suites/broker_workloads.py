"""Who acts for a run: only the registered pod with its pinned uid, of the newest generation; what it reports is
bounded, ordered, and counted once.
"""

from __future__ import annotations

import functools
import json
import time
from collections.abc import Callable
from typing import Any

import httpx
import jwt
import pytest

from gdi.broker_client.client import BrokerClient
from gdi.contracts import broker_api as m
from gdi.kit.jose import SigningKey, verify
from tests.support.broker_kit import AIRFLOW, DATASETS, SNAKEMAKE, USERS, World, refused
from token_broker.enrolment import WorkloadIssuer


@pytest.fixture
def run(world: World, alice: BrokerClient) -> m.Run:
    return world.started(alice)[1]


def ask(world: World, run: m.Run, node: str = "node-a", min_ttl: float = 60) -> m.TokenRequest:
    return m.TokenRequest(audience=world.audience(run, node), min_ttl=min_ttl)


def keys(world: World) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = httpx.get(world.url() + "/.well-known/jwks.json", trust_env=False).json()["keys"]
    assert all("d" not in k for k in found)
    return found


def test_a_run_token_says_all_that_a_gateway_needs_and_nothing_else(world: World, run: m.Run) -> None:
    made = world.workload(run, "pod-a")
    token = world.pod("pod-a").token(run.id, ask(world, run))
    claims = verify(token.token, keys(world), issuer=world.public_url, audience=world.audience(run), typ="run+jwt")
    expected = {
        "sub": USERS["alice"],
        "run": run.id,
        "attempt": 1,
        "node": "node-a",
        "workflow": "allele-frequency",
        "digest": run.digest,
        "datasets": [DATASETS["node-a"]],
        "scope": "tasks workspace",
        "generation": made.generation,
        "wl": "pod-a",
    }
    assert {k: v for k, v in claims.items() if k not in ("iss", "aud", "iat", "exp", "jti")} == expected
    assert claims["exp"] == token.expires_at
    with world.airflow() as airflow:
        other = verify(
            airflow.token(run.id, ask(world, run)).token,
            keys(world),
            issuer=world.public_url,
            audience=world.audience(run),
            typ="run+jwt",
        )
    assert (other["scope"], other["generation"], other["wl"]) == ("releases close", 0, "airflow")


def test_only_the_registered_pinned_newest_pod_of_the_node_gets_a_token(world: World, run: m.Run) -> None:
    request = ask(world, run)
    assert refused(world.pod("pod-x").token, run.id, request).slug == "workload-unknown"
    world.workload(run, "pod-1", uid=None)
    assert refused(world.pod("pod-1").token, run.id, request).slug == "workload-unpinned"
    world.workload(run, "pod-1", uid="uid-1")
    assert refused(world.pod("pod-1", uid="uid-2").token, run.id, request).slug == "wrong-uid"
    assert world.pod("pod-1").token(run.id, request).token
    assert refused(world.pod("pod-1").token, run.id, ask(world, run, "node-b")).slug == "wrong-audience"
    assert refused(world.pod("pod-1").token, run.id, m.TokenRequest(audience="http://evil")).slug == "wrong-audience"
    world.workload(run, "pod-b", node="node-b")
    assert world.pod("pod-1").token(run.id, request).token, "another node's pod fences nobody here"
    world.workload(run, "pod-2", uid=None)
    assert refused(world.pod("pod-1").token, run.id, request).slug == "workload-fenced", (
        "the replacement fences before it runs"
    )
    assert refused(world.pod("pod-1").post_events, run.id, batch("pod-1", note(1))).slug == "workload-fenced"
    world.workload(run, "pod-2", uid="uid-1")
    assert world.pod("pod-2").token(run.id, request).token


def test_a_nodes_own_cluster_speaks_for_its_own_pods_only(make_world: Callable[..., World]) -> None:
    world, theirs = make_world(), SigningKey.generate()
    (world.folder / "theirs.json").write_text(json.dumps({"keys": [theirs.jwk()]}))
    own = {
        "issuer": "https://cluster.node-b",
        "jwks_file": str(world.folder / "theirs.json"),
        "snakemake": [SNAKEMAKE],
        "nodes": ["node-b"],
    }
    enrolment = world.enrolment()
    world.enrol({**enrolment, "workload_issuers": [*enrolment["workload_issuers"], own]})
    world.start_broker()
    run = world.started(world.user("alice"))[1]
    for node in DATASETS:
        world.workload(run, f"pod-{node}", node=node)
    as_theirs = {"iss": "https://cluster.node-b", "key": theirs}
    assert world.pod("pod-node-b", **as_theirs).token(run.id, ask(world, run, "node-b")).token
    assert refused(world.pod("pod-node-a", **as_theirs).token, run.id, ask(world, run)).slug == "wrong-issuer", (
        "it knows the name and the uid, and yet"
    )
    with pytest.raises(ValueError, match="cannot vouch for Airflow"):
        WorkloadIssuer(**{**own, "airflow": [AIRFLOW]})


def test_registration_is_repeatable_and_a_pin_is_for_good(world: World, run: m.Run) -> None:
    first = world.workload(run, "pod-1")
    assert world.workload(run, "pod-1") == first
    with world.airflow() as airflow:
        put = lambda pod, **v: airflow.put_workload(  # noqa: E731
            run.id, pod, m.WorkloadRequest(**{"node": "node-a", "attempt": 1, **v})
        )
        assert refused(put, "pod-1", uid="uid-9").slug == "uid-pinned"
        assert refused(put, "pod-9", uid="uid-9").slug == "workload-unknown", (
            "a uid cannot be pinned before the name was registered"
        )
        assert refused(put, "pod-1", node="node-b").slug == "workload-mismatch"
        assert refused(put, "pod-3", node="node-z").slug == "node-not-in-plan"
        assert refused(put, "pod-3", attempt=2).slug == "attempt-over"
        assert refused(put, "airflow-x").slug == "bad-pod-name"
        assert put("pod-2").generation == first.generation + 1
        assert refused(put, "pod-1").slug == "workload-fenced"
    assert (
        refused(world.pod("pod-1").put_workload, run.id, "pod-7", m.WorkloadRequest(node="node-a", attempt=1)).slug
        == "forbidden"
    )


@pytest.mark.parametrize(
    "changes",
    [
        {"iss": "https://other-cluster"},
        {"key": SigningKey.generate()},
        {"aud": "kubernetes"},
        {"exp": int(time.time()) - 60},
        {"sub": "system:serviceaccount:default:default"},
        {"kubernetes.io": {"namespace": "gdi"}},
    ],
    ids=lambda c: next(iter(c)),
)
def test_an_identity_of_a_wrong_issuer_key_audience_time_or_account_is_nobody(
    world: World, run: m.Run, changes: dict[str, Any]
) -> None:
    world.workload(run, "pod-1")
    pod = BrokerClient(
        world.url(), lambda: world.identity(**{"sub": SNAKEMAKE, "pod": "pod-1", "uid": "uid-1", **changes})
    )
    assert refused(pod.token, run.id, ask(world, run)).slug == "unauthenticated"


def test_a_gateway_is_known_by_its_key_alone_and_serves_its_own_runs(
    world: World, run: m.Run, alice: BrokerClient
) -> None:
    assert world.node_token("node-a", run.id).status_code == 200
    forged = world.node_keys["node-b"].sign({"iss": "node-a", "sub": "node-a", "aud": world.public_url}, lifetime=60)
    stale = world.node_keys["node-a"].sign({"iss": "node-a", "sub": "node-a", "aud": world.public_url}, lifetime=86400)
    elsewhere = world.assertion("node-a", aud="http://other-broker")
    for token in (forged, stale, elsewhere, "x", "a.b.c"):
        answer = httpx.post(
            f"{world.url()}/v1/runs/{run.id}/node-tokens",
            json={"audience": "sda"},
            headers={"Authorization": f"Bearer {token}"},
            trust_env=False,
        )
        assert answer.status_code == 401 and token not in answer.text.split('"')
    single = {"datasets": [DATASETS["node-a"]]}
    other = world.admit(world.ticket(alice, world.grant(alice).id, single), parameters=single)
    assert world.node_token("node-b", other.id).status_code == 404, (
        "a node that is no part of the run knows nothing of it"
    )
    assert refused(world.gateway("node-b").get_run, other.id).slug == "run-unknown"
    assert world.gateway("node-a").get_run(other.id).id == other.id
    assert refused(alice.token, run.id, ask(world, run)).slug == "forbidden"


def test_a_gateway_is_told_of_its_own_part_of_a_run_only(world: World, run: m.Run) -> None:
    failed = m.Event(
        seq=1, time=time.time(), kind="node", state="failed", message="A reason.", dataset=DATASETS["node-b"]
    )
    with world.airflow() as airflow:
        airflow.post_events(run.id, m.EventBatch(source="airflow", node="node-b", events=[failed]))
        whole = airflow.get_run(run.id)
    assert {item.node for item in whole.plan} == {"node-a", "node-b"} and whole.failing is not None
    mine, failing = world.gateway("node-a").get_run(run.id), world.gateway("node-b").get_run(run.id)
    assert (
        [item.node for item in mine.plan] == ["node-a"]
        and mine.datasets == [DATASETS["node-a"]]
        and mine.failing is None
    )
    assert failing.failing == whole.failing


def test_a_node_token_is_narrowed_to_the_nodes_service_and_cached(world: World, run: m.Run) -> None:
    before = world.stats()["refreshes"].get(USERS["alice"], 0)
    seen: dict[str, str] = {}
    for audience in ("sda", "tes"):
        for node in DATASETS:
            token = world.node_token(node, run.id, audience).json()["token"]
            assert jwt.decode(token, options={"verify_signature": False})["aud"] == [f"http://{audience}.{node}"]
            assert world.node_token(node, run.id, audience).json()["token"] == token
            seen[token] = node
            at_broker = BrokerClient(world.url(), functools.partial(str, token))
            assert refused(at_broker.get_grant, "g-" + "0" * 32).slug == "unauthenticated", (
                "at the broker itself it is worth nothing"
            )
    assert len(seen) == 4
    assert world.stats()["refreshes"].get(USERS["alice"], 0) == before


def test_a_closed_run_gives_no_tokens_and_a_later_attempt_fences_the_earlier(world: World, run: m.Run) -> None:
    world.workload(run, "pod-1")
    with world.airflow() as airflow:
        airflow.close_run(run.id, m.CloseRequest(attempt=1, outcome="failed"))
        assert refused(airflow.token, run.id, ask(world, run)).slug == "run-closed"
        assert (
            refused(airflow.put_workload, run.id, "pod-2", m.WorkloadRequest(node="node-a", attempt=1)).slug
            == "run-closed"
        )
    assert refused(world.pod("pod-1").token, run.id, ask(world, run)).slug == "run-closed"
    assert world.node_token("node-a", run.id).json()["type"].endswith("run-closed")
    second = world.admit(dag_run_id=run.dag_run_id, attempt=2)
    assert refused(world.pod("pod-1").token, run.id, ask(world, run)).slug == "workload-fenced"
    assert world.workload(second, "pod-1").generation > 1
    assert world.pod("pod-1").token(run.id, ask(world, run)).token
    assert world.node_token("node-a", run.id).status_code == 200


def test_a_run_token_never_outlives_the_access_it_speaks_of(world: World, bob: BrokerClient) -> None:
    for dataset in DATASETS.values():
        world.entitle("bob", dataset, expires_in=90)
    try:
        _, run = world.started(bob)
    finally:
        for dataset in DATASETS.values():
            world.withdraw("bob", dataset)
    world.workload(run, "pod-1")
    assert world.pod("pod-1").token(run.id, ask(world, run, min_ttl=30)).expires_at <= run.plan[0].access_ends_at + 1
    assert refused(world.pod("pod-1").token, run.id, ask(world, run, min_ttl=120)).slug == "min-ttl-unavailable"


# --- events -------------------------------------------------------------------------------------


def note(seq: int, **values: Any) -> m.Event:
    return m.Event(**{"seq": seq, "time": time.time(), "kind": "note", "message": f"n{seq}", **values})


def job(seq: int, name: str, state: str, rule: str = "count", **values: Any) -> m.Event:
    return note(seq, kind="job", job=name, rule=rule, state=state, message=None, **values)


def batch(source: str, *events: m.Event, node: str | None = None) -> m.EventBatch:
    return m.EventBatch(source=source, node=node, events=list(events))


def test_events_are_stored_once_in_order_and_numbered_run_wide(world: World, run: m.Run, alice: BrokerClient) -> None:
    world.workload(run, "pod-a")
    world.workload(run, "pod-b", node="node-b")
    a, b = world.pod("pod-a"), world.pod("pod-b")
    a.post_events(run.id, batch("pod-a", note(1), note(2)))
    b.post_events(run.id, batch("pod-b", note(1)))
    a.post_events(run.id, batch("pod-a", note(3), note(2, message="another text"), note(3)))
    with world.airflow() as airflow:
        airflow.post_events(run.id, batch("airflow", note(1), node="node-b"))
    page = alice.events(run.id)
    assert [(e.number, e.source, e.seq, e.node, e.message) for e in page.events] == [
        (1, "pod-a", 1, "node-a", "n1"),
        (2, "pod-a", 2, "node-a", "n2"),
        (3, "pod-b", 1, "node-b", "n1"),
        (4, "pod-a", 3, "node-a", "n3"),
        (5, "airflow", 1, "node-b", "n1"),
    ]
    assert (page.next_after, page.run_state) == (5, "open")
    assert [e.number for e in alice.events(run.id, after=3, limit=1).events] == [4]
    assert alice.events(run.id, after=5).next_after == 5


def test_a_pod_speaks_for_itself_only(world: World, run: m.Run) -> None:
    world.workload(run, "pod-a")
    pod = world.pod("pod-a")
    assert refused(pod.post_events, run.id, batch("airflow", note(1))).slug == "wrong-source"
    assert refused(pod.post_events, run.id, batch("pod-b", note(1))).slug == "wrong-source"
    pod.post_events(run.id, batch("pod-a", note(1), node="node-b"))
    with world.airflow() as airflow:
        assert [e.node for e in airflow.events(run.id).events] == ["node-a"]
        assert refused(airflow.post_events, run.id, batch("airflow", note(1), node="node-z")).slug == "node-not-in-plan"
        assert refused(airflow.post_events, run.id, batch("pod-a", note(2))).slug == "wrong-source"


def test_progress_is_the_sum_by_node_and_rule(world: World, run: m.Run, alice: BrokerClient) -> None:
    world.workload(run, "pod-a")
    pod = world.pod("pod-a")
    start = note(1, kind="node", state="starting", message="")
    plan = note(2, kind="rules", counts={"split": 1, "count": 3}, message=None)
    pod.post_events(
        run.id,
        batch(
            "pod-a",
            start,
            plan,
            job(3, "j0", "running", "split"),
            job(4, "j0", "done", "split"),
            job(5, "j1", "running"),
        ),
    )
    pod.post_events(
        run.id, batch("pod-a", job(6, "j2", "running"), job(7, "j2", "failed", exit_code=1), job(8, "j3", "queued"))
    )
    found = alice.progress(run.id)
    assert [(r.rule, r.total, r.done, r.running, r.failed, r.ended_at is not None) for r in found.rules] == [
        ("split", 1, 1, 0, 0, True),
        ("count", 3, 0, 1, 1, False),
    ]
    assert [(n.node, n.state, n.done, n.total) for n in found.nodes] == [
        ("node-a", "running", 1, 4),
        ("node-b", "waiting", 0, 0),
    ]
    pod.post_events(
        run.id,
        batch(
            "pod-a",
            note(9, kind="node", state="failed", message="no access", dataset=DATASETS["node-a"]),
            job(10, "j3", "cancelled"),
        ),
    )
    world.workload(run, "pod-b", node="node-b")
    world.pod("pod-b").post_events(run.id, batch("pod-b", note(1, kind="node", state="failed", message="told to stop")))
    found = alice.progress(run.id)
    assert found.failing == m.Failing(node="node-a", reason="no access", dataset=DATASETS["node-a"]), (
        "the first failure is the reason"
    )
    assert [n.state for n in found.nodes] == ["failed", "failed"]
    second = world.admit(dag_run_id=run.dag_run_id, attempt=2)
    assert second.failing is None and alice.progress(run.id).rules == []


def test_every_rule_that_ran_has_a_start_also_where_it_was_over_before_anyone_saw_it_run(
    world: World, run: m.Run, alice: BrokerClient
) -> None:
    at = round(time.time()) - 100.0
    world.workload(run, "pod-a")
    pod = world.pod("pod-a")
    pod.post_events(
        run.id,
        batch("pod-a", job(1, "f", "submitted", "fast", time=at + 10), job(2, "s", "submitted", "slow", time=at + 10)),
    )
    assert [r.started_at for r in alice.progress(run.id).rules] == [None, None], "what waits has not begun"
    pod.post_events(
        run.id, batch("pod-a", job(3, "f", "done", "fast", time=at + 12), job(4, "s", "queued", "slow", time=at + 13))
    )
    pod.post_events(run.id, batch("pod-a", job(5, "s", "running", "slow", time=at + 20)))
    pod.post_events(run.id, batch("pod-a", job(6, "s", "done", "slow", time=at + 25)))
    pod.post_events(
        run.id,
        batch(
            "pod-a",
            job(7, "o", "submitted", "one-batch", time=at + 30),
            job(8, "o", "running", "one-batch", time=at + 31),
        ),
    )
    pod.post_events(run.id, batch("pod-a", job(9, "u", "done", "unseen", time=at + 40)))
    found = {r.rule: tuple(t and t - at for t in (r.started_at, r.ended_at)) for r in alice.progress(run.id).rules}
    assert found == {"fast": (10.0, 12.0), "slow": (20.0, 25.0), "one-batch": (31.0, None), "unseen": (40.0, 40.0)}


HOSTILE: list[dict[str, Any]] = [
    {"message": "x" * 2001},
    {"rule": "r" * 256},
    {"wildcards": {str(i): "" for i in range(51)}},
    {"seq": 0},
    {"seq": 2**70},
    {"error_class": "<script>"},
    {"counts": {"r": -1}},
    {"unknown": 1},
    {"message": "\ud800"},
]


@pytest.mark.parametrize("values", HOSTILE, ids=lambda v: next(iter(v)))
def test_hostile_events_are_refused_as_bad_input(world: World, run: m.Run, values: dict[str, Any]) -> None:
    event = {"seq": 1, "time": 1.0, "kind": "note", **values}
    answer = raw(world, run, json.dumps({"source": "airflow", "events": [event]}).encode())
    assert answer.status_code == 422 and answer.headers["content-type"] == "application/problem+json", answer.text


def raw(world: World, run: m.Run, content: bytes) -> httpx.Response:
    headers = {"Authorization": f"Bearer {world.identity()}", "Content-Type": "application/json"}
    return httpx.post(f"{world.url()}/v1/runs/{run.id}/events", content=content, headers=headers, trust_env=False)


def test_hostile_text_is_bounded_and_cleaned(world: World, run: m.Run, alice: BrokerClient) -> None:
    text = "\x1b[31m<img src=x onerror=alert(1)>\u202e\x00\r\nok"
    written = {
        "seq": 1,
        "time": 1e300,
        "kind": "job",
        "rule": text,
        "job": text,
        "wildcards": {text: text},
        "state": "running",
        "message": text,
    }
    huge = (
        '{"seq": 2, "time": NaN, "kind": "progress", "done": 1000000000000000000000, "total": 5, "exit_code":'
        " -99999999999999}"
    )
    plan = '{"seq": 3, "time": -Infinity, "kind": "rules", "counts": {"big": 9007199254740993}}'
    body = f'{{"source": "airflow", "node": "node-a", "events": [{json.dumps(written)}, {huge}, {plan}]}}'
    assert raw(world, run, body.encode()).status_code == 204
    events = alice.events(run.id).events
    assert len(events) == 3 and all(abs(e.time - time.time()) < 60 for e in events)
    assert events[0].message == "\ufffd[31m<img src=x onerror=alert(1)>\ufffd\ufffd\ufffd\ufffdok"
    assert alice.progress(run.id).rules
    for nonsense in (b"{" * 100_000, b"[" * 100_000, b"\xff\xfe", b"null", b'{"source": "airflow", "events": []}'):
        assert raw(world, run, nonsense).status_code in (400, 422)
    assert raw(world, run, b'"' + b"x" * 3_000_000 + b'"').status_code == 413


def test_a_parameter_that_is_no_json_is_refused_and_not_hashed(world: World, alice: BrokerClient) -> None:
    grant = world.grant(alice)
    token = world.sign_in().access_token
    for parameters in (
        '{"datasets": ["EGAD00000000001"], "x": NaN}',
        '{"datasets": ["EGAD00000000001"], "x": "\\ud800"}',
        '{"datasets": []}',
        "{}",
    ):
        answer = httpx.post(
            f"{world.url()}/v1/grants/{grant.id}/tickets",
            content=f'{{"workflow": "allele-frequency", "parameters": {parameters}}}'.encode(),
            headers={"Authorization": f"Bearer {token}", "Content-Type": "application/json"},
            trust_env=False,
        )
        assert answer.status_code == 422, answer.text
