"""Promise 3: without a good visa for every dataset the run is refused before anything exists, naming dataset and
reason.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from gdi.broker_client.client import BrokerClient
from gdi.contracts.ids import make_run_id
from tests.support.broker_kit import DATASETS, USERS, World, refused, wait_for
from tests.support.data_point import data_point

pytest_plugins = ["tests.support.broker_fixtures"]
A, B = DATASETS["node-a"], DATASETS["node-b"]


@pytest.fixture
def clean_bob(world: World, bob: BrokerClient) -> Iterator[BrokerClient]:
    """Bob with a good visa for node-a's dataset, and none for node-b's."""
    world.entitle("bob", A)
    yield bob
    for dataset in (A, B):
        world.withdraw("bob", dataset)


@pytest.mark.parametrize(
    ("entitlement", "reason"),
    [
        (None, "no-visa"),
        ({"variant": "expired"}, "expired"),
        ({"expires_in": 30}, "expired"),  # what ends within the minute is not begun
        ({"variant": "untrusted-jku"}, "untrusted-issuer"),
        ({"variant": "untrusted-issuer"}, "untrusted-issuer"),
        ({"variant": "bad-signature"}, "bad-signature"),
        ({"variant": "not-a-jwt"}, "no-visa"),
        ({"type": "AcceptedTermsAndPolicies"}, "wrong-type"),
        ({"by": None}, "malformed"),
        ({"asserted": 2**40}, "malformed"),
        ({"conditions": [[{"type": "AffiliationAndRole", "value": "const:faculty@x.org"}]]}, "conditions"),
    ],
    ids=lambda v: v if isinstance(v, str) else "-".join(f"{k}" for k in v) if v else "none",
)
def test_a_run_without_a_good_visa_for_each_dataset_is_refused_with_dataset_and_reason(
    world: World, clean_bob: BrokerClient, entitlement: dict[str, Any] | None, reason: str
) -> None:
    if entitlement is not None:
        world.entitle("bob", B, **entitlement)
    fetched = world.stats().get("rogue_jwk_fetches", 0)
    grant = world.grant(clean_bob)
    request = world.admit_request(world.ticket(clean_bob, grant.id))
    with world.airflow() as airflow:
        error = refused(airflow.admit, request)
        assert error.slug == "access-denied"
        extra = error.problem.model_extra or {}
        assert [(r["dataset"], r["node"], r["reason"]) for r in extra["refusals"]] == [(B, "node-b", reason)]
        assert B in str(error) and reason in str(error) and A not in str(error) and extra["refusals"][0]["how_to_apply"]
        run = make_run_id(request.dag_id, request.dag_run_id)
        assert refused(airflow.get_run, run).slug == "run-unknown", "no run came to be"
        denied = [e for e in airflow.audit(run).entries if not e.allowed]
        assert [(e.dataset, e.reason, e.action) for e in denied] == [(B, reason, "run.admit")]
        # The ticket is bound to this run now: a retry after access was granted needs no new one.
        world.withdraw("bob", B)
        world.entitle("bob", B)
        assert airflow.admit(request).user == USERS["bob"]
    assert world.stats().get("rogue_jwk_fetches", 0) == fetched, "an untrusted jku is never fetched"


def test_a_good_visa_beside_bad_ones_is_enough(world: World, clean_bob: BrokerClient) -> None:
    for variant in ("expired", "bad-signature", "untrusted-issuer", "good"):
        world.entitle("bob", B, variant=variant)
    world.entitle("bob", B, variant="good", conditions=None)
    _, run = world.started(clean_bob)
    assert [p.node for p in run.plan] == ["node-a", "node-b"]


def test_the_audit_says_under_which_visa(world: World, alice: BrokerClient) -> None:
    _, run = world.started(alice)
    entries = [e for e in alice.audit(run.id).entries if e.action == "run.admit"]
    assert [e.dataset for e in entries] == [A, B]
    assert all(
        e.visa and e.visa["value"] == e.dataset and e.visa["by"] == "dac" and e.visa["iss"].endswith("/rems/")
        for e in entries
    )


def test_a_dataset_that_no_node_holds_is_named(world: World, alice: BrokerClient) -> None:
    world.entitle("alice", "EGAD-NOWHERE")
    grant = world.grant(alice, datasets=[A, "EGAD-NOWHERE"])
    parameters = {"datasets": [A, "EGAD-NOWHERE"]}
    error = refused(world.admit, world.ticket(alice, grant.id, parameters), parameters=parameters)
    assert error.slug == "access-denied"
    assert [(r["dataset"], r["reason"]) for r in (error.problem.model_extra or {})["refusals"]] == [
        ("EGAD-NOWHERE", "unknown-dataset")
    ]


def test_a_later_attempt_is_admitted_with_the_visas_of_that_moment(world: World, clean_bob: BrokerClient) -> None:
    world.entitle("bob", B)
    _, run = world.started(clean_bob)
    world.withdraw("bob", B)
    again = {"dag_run_id": run.dag_run_id, "attempt": 2}
    assert refused(world.admit, **again).slug == "access-denied"
    world.entitle("bob", B)
    assert world.admit(**again).attempt == 2


def test_while_the_key_set_cannot_be_had_it_is_not_a_refusal(make_world: Any) -> None:
    world = make_world(broker_env={"PROVIDER_TIMEOUT": "2"})
    world.faults({"path": "/rems/api/jwk", "status": 503, "count": 100})
    world.start_broker()
    alice = world.user()
    request = world.admit_request(world.ticket(alice, world.grant(alice).id))
    with world.airflow() as airflow:
        assert refused(airflow.admit, request).slug == "visa-issuer-unavailable"
        world.faults()
        assert airflow.admit(request).state == "open"


def test_a_user_sees_whose_token_it_is_what_they_may_use_and_their_own_runs(world: World, alice: BrokerClient) -> None:
    """What the API for people and portals passes on."""
    _, run = world.started(alice)

    def ask(user: str, path: str) -> Any:
        headers = {"Authorization": f"Bearer {world.sign_in(user).access_token}"}
        answer = httpx.get(world.url() + path, headers=headers, trust_env=False, timeout=60)
        return answer.raise_for_status().json()

    assert ask("alice", "/v1/me") == {"sub": USERS["alice"], "client_id": "user-portal", "committees": []}
    states = {
        user: {
            d["id"]: (d["node"], d["access"]["state"], d["access"]["reason"])
            for d in ask(user, "/v1/datasets")["datasets"]
        }
        for user in USERS
    }
    assert states["alice"] == {A: ("node-a", "granted", None), B: ("node-b", "granted", None)}
    assert states["bob"] == {A: ("node-a", "refused", "no-visa"), B: ("node-b", "refused", "no-visa")}
    assert run.id in [r["id"] for r in ask("alice", "/v1/me/runs?limit=1000")["runs"]]
    assert {r["user"] for r in ask("bob", "/v1/me/runs?limit=1000")["runs"]} <= {USERS["bob"]}
    assert ask("alice", f"/v1/me/runs?after={run.opened_at}")["runs"] == []
    with httpx.Client(base_url=world.url(), trust_env=False, timeout=60) as nobody:
        assert [nobody.get(path).status_code for path in ("/v1/me", "/v1/me/runs", "/v1/datasets")] == [401] * 3


def test_datasets_have_the_words_of_the_linked_catalogue(world: World, alice: BrokerClient) -> None:
    headers = {"Authorization": f"Bearer {world.sign_in('alice').access_token}"}

    def words() -> dict[str, Any]:
        answer = httpx.get(world.url() + "/v1/datasets", headers=headers, trust_env=False, timeout=60)
        return {d["id"]: d for d in answer.raise_for_status().json()["datasets"]}

    assert words()[A]["catalogue"] is None
    with data_point() as point:
        url = point.mini_node({A: "Cohort of A", "EGAD-NOBODYS": "Not ours"})
        world.enrol({**world.enrolment(), "catalogues": [{"url": url}]})
        try:
            wait_for("the broker reads the catalogue", lambda: words()[A]["catalogue"] is not None, 60)
            found = words()
        finally:
            world.enrol()
    assert found.keys() == {A, B}
    assert (found[A]["title"], found[A]["catalogue"]["publisher"]) == ("Cohort of A", "Institute")
    assert found[A]["apply_url"].startswith(world.aai_url), "the operator's own word goes before the catalogue's"
    assert found[B]["catalogue"] is None
