"""The token keeper: a refresh token is redeemed once, whatever crashes, hangs or races; what dies is said at once."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from gdi.contracts import broker_api as m
from gdi.local_federation.openbao import OpenBao
from tests.support.broker_kit import World, refused, wait_for
from tests.support.refresh_kills import end_access_token, killed_between_answer_and_write, refreshes

pytestmark = pytest.mark.long
pytest_plugins = ["tests.support.broker_fixtures"]
ACCESS = 30  # seconds; asking for more than is left forces a refresh
FRESH = ACCESS - 1.5
LEASE = 5


@pytest.fixture(scope="module")
def world(openbao: OpenBao, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """A world for all the ways in which a refresh goes wrong; the last test reads what it left behind."""
    made = World(
        tmp_path_factory.mktemp("keeper"),
        openbao,
        access=ACCESS,
        broker_env={"LEASE_SECONDS": str(LEASE), "PROVIDER_TIMEOUT": "2"},
    )
    made.start_broker()
    yield made
    made.stop()


def until_stale() -> None:
    """The access token of a new grant has less than FRESH seconds left."""
    time.sleep(ACCESS - FRESH + 0.2)


def fresh_token(world: World, run: m.Run) -> httpx.Response:
    """The answer to a question for a token that lives FRESH seconds; one that is given does."""
    asked = time.time()
    answer = world.node_token("node-a", run.id, min_ttl=FRESH)
    assert answer.status_code != 200 or answer.json()["expires_at"] > asked + FRESH - 1, "its end in whole seconds"
    return answer


def kill_in_refresh(world: World, run: m.Run) -> None:
    until_stale()
    killed_between_answer_and_write(world, lambda: fresh_token(world, run))


def test_two_replicas_under_load_never_redeem_a_refresh_token_twice(make_world: Callable[..., World]) -> None:
    world = make_world(access=4, refresh=16)
    for replica in (0, 1):
        world.start_broker(replica)
    alice = world.user()
    grant, run = world.started(alice)
    started, bad, tokens = time.monotonic(), [], set()
    seconds, enough = 9.0, 400  # at least so long and so many, however slow the machine is
    everyone = [0] * 6

    def gateway(i: int) -> int:
        while time.monotonic() < started + seconds or sum(everyone) < enough:
            answer = world.node_token(
                "node-a" if i % 3 else "node-b", run.id, "sda" if i % 2 else "tes", min_ttl=1, replica=i % 2
            )
            if answer.status_code != 200:
                bad.append(answer.text)
                break
            tokens.add(answer.json()["token"])
            everyone[i] += 1
        return everyone[i]

    with ThreadPoolExecutor(6) as pool:
        served = sum(pool.map(gateway, range(6)))
    took = time.monotonic() - started
    assert bad == []
    stats = world.stats()
    assert stats.get("reuse_detected", 0) == 0
    count = refreshes(world)
    # An access token of 4 s serves for 2 s at least: not one refresh per request, and not one per replica.
    assert seconds / 4 - 1 <= count <= took / 2 + 2, count
    assert served > 10 * count
    with world.airflow():
        assert world.user().get_grant(grant.id).refreshes == count


def test_an_idle_grant_outlives_many_refresh_tokens(make_world: Callable[..., World]) -> None:
    world = make_world(access=2, refresh=4)
    world.start_broker()
    grant, run = world.started(world.user())
    # Meanwhile the provider hangs on the revocation of another grant, for longer than a refresh token lives.
    user = world.user()
    other = world.grant(user)
    world.faults({"path": "/oidc/revoke", "delay": 5, "count": 100})
    user.revoke_grant(other.id)
    # Nobody asks for a token during more than two lives of a refresh token.
    wait_for("the background refreshes it", lambda: refreshes(world) >= 5)
    assert world.node_token("node-a", run.id, min_ttl=0).status_code == 200
    assert world.stats().get("reuse_detected", 0) == 0
    assert world.user().get_grant(grant.id).state == "active"


def test_a_broker_killed_in_the_middle_of_a_refresh_loses_no_grant(world: World) -> None:
    """The new refresh token is lost with the process; the last access token saves the grant; nothing is replayed."""
    grant, run = world.started(world.user())
    kill_in_refresh(world, run)
    world.brokers[0].start(world.url() + "/readyz")
    assert wait_for("the grant serves again", lambda: fresh_token(world, run).status_code == 200)
    assert world.stats().get("reuse_detected", 0) == 0
    assert world.user().get_grant(grant.id).state == "active"
    assert "saved by exchanging the last access token" in world.brokers[0].log.read_text()


def test_a_refresh_token_lost_in_a_crash_is_reported_dead_with_what_to_do(world: World) -> None:
    """As above, but the last access token has ended, too: nothing is left, the user is told, nothing hangs and nothing
    is replayed.
    """
    grant, run = world.started(world.user())
    kill_in_refresh(world, run)
    end_access_token(world, grant.id)
    world.brokers[0].start(world.url() + "/readyz")
    answer = wait_for("it is said", lambda: (a := fresh_token(world, run)).status_code == 403 and a).json()
    assert (
        answer["type"].endswith("grant-inactive") and answer["state"] == "dead" and "consent again" in answer["action"]
    )
    assert world.stats().get("reuse_detected", 0) == 0
    told = world.user().get_grant(grant.id)
    assert told.state == "dead" and "redeeming" in told.detail


@pytest.mark.parametrize(
    "fault",
    [
        pytest.param({"when": "after", "status": 502}, id="redeemed-then-error"),
        pytest.param({"when": "after", "delay": 4}, id="redeemed-then-silence"),
        pytest.param({"when": "before", "status": 503, "count": 2}, id="not-redeemed"),
        pytest.param({"when": "before", "status": 403, "body": "<html>firewall</html>", "count": 2}, id="a-proxys-403"),
        pytest.param({"when": "before", "status": 404, "body": "<html>no route</html>"}, id="a-proxys-404"),
        pytest.param({"when": "before", "status": 400}, id="temporarily-unavailable-as-400"),
        pytest.param({"when": "before", "status": 302, "body": ""}, id="redirected"),
        pytest.param({"when": "after", "status": 200, "body": "<html>sign in</html>"}, id="redeemed-then-a-page"),
    ],
)
def test_a_lost_answer_of_the_provider_loses_no_grant(world: World, fault: dict[str, Any]) -> None:
    """Whether the token was redeemed is unknown to the broker, and found out without replaying."""
    grant, run = world.started(world.user())
    until_stale()
    world.faults({"path": "/oidc/token", **fault})
    assert wait_for("a fresh token", lambda: fresh_token(world, run).status_code == 200)
    assert world.stats().get("reuse_detected", 0) == 0
    assert world.user().get_grant(grant.id).state == "active"


def test_while_vault_is_sealed_a_redeemed_token_is_kept_and_shown_to_nobody(world: World) -> None:
    """Stored before anyone sees it: sealed after the redemption, the broker holds the only copy until Vault is back."""
    grant, run = world.started(world.user())
    until_stale()
    before = refreshes(world)
    world.faults({"path": "/oidc/token", "when": "after", "delay": 3})
    answers: list[httpx.Response] = []
    ask = threading.Thread(target=lambda: answers.append(fresh_token(world, run)))
    ask.start()
    wait_for("the token is redeemed", lambda: refreshes(world) == before + 1)
    try:
        with world.bao.as_operator() as operator:
            operator.put("/v1/sys/seal").raise_for_status()
        assert world.watch("/readyz").status_code == 503
        # shown to nobody: whoever waits has no answer yet, or, on a slow machine, was told to come again
        assert [answer.status_code for answer in answers] in ([], [503])
    finally:
        world.bao.settle()  # also for the tests that come next
    ask.join(120)
    assert wait_for("it serves", lambda: fresh_token(world, run).status_code == 200)
    assert world.stats().get("reuse_detected", 0) == 0
    assert world.user().get_grant(grant.id).state == "active"


def test_a_grant_that_the_provider_ended_is_dead_at_once_and_not_retried(world: World) -> None:
    alice = world.user()
    grant, run = world.started(alice)
    with world.bao.as_operator() as operator:
        held = operator.get(f"/v1/gdi/data/grants/{grant.id}").json()["data"]["data"]
    auth = ("token-broker", world.secrets["broker"])
    httpx.post(
        world.issuer + "/revoke", data={"token": held["refresh_token"]}, auth=auth, trust_env=False
    ).raise_for_status()
    until_stale()
    started = time.monotonic()
    answer = fresh_token(world, run)
    assert answer.status_code == 403 and answer.json()["state"] == "dead"
    assert time.monotonic() - started < LEASE + 15, "it was not tried again until the patience with the provider ended"
    assert world.user().get_grant(grant.id).state == "dead"


def test_while_the_provider_is_away_the_answer_comes_in_bounded_time_and_service_resumes(world: World) -> None:
    _, run = world.started(world.user())
    world.aai.kill()
    until_stale()
    started = time.monotonic()
    answer = fresh_token(world, run)
    assert answer.status_code == 503 and answer.json()["type"].endswith("provider-unavailable")
    assert time.monotonic() - started < 2 * (LEASE + 15), "the patience with one refresh; twice, for a slow machine"
    world.aai.start(world.issuer + "/.well-known/openid-configuration")
    assert wait_for("it serves again", lambda: fresh_token(world, run).status_code == 200)
    assert world.stats().get("reuse_detected", 0) == 0


def test_a_token_that_cannot_live_long_enough_is_refused_with_the_reason_and_costs_no_refresh(world: World) -> None:
    _, run = world.started(world.user())
    before = refreshes(world)
    for _ in range(3):
        answer = world.node_token("node-a", run.id, min_ttl=600)
        assert answer.status_code == 409 and answer.json()["type"].endswith("min-ttl-unavailable")
    assert refreshes(world) == before


def test_revocation_reaches_a_provider_that_was_away(world: World) -> None:
    broker, before = world.brokers[0], world.stats().get("revocations", 0)
    alice = world.user()
    grant, _ = world.started(alice)
    world.faults({"path": "/oidc/revoke", "status": 503, "count": 2})
    alice.revoke_grant(grant.id)
    broker.kill()  # the queue outlives the process
    broker.start(world.url() + "/readyz")
    wait_for("the provider heard of it", lambda: world.stats().get("revocations", 0) > before)
    with world.bao.as_operator() as operator:
        wait_for(
            "the record is destroyed", lambda: operator.get(f"/v1/gdi/metadata/grants/{grant.id}").status_code == 404
        )


def test_the_brokers_own_vault_token_may_die(world: World) -> None:
    alice = world.user()
    _, run = world.started(alice)
    with world.bao.as_operator() as operator:
        for accessor in operator.request("LIST", "/v1/auth/token/accessors").json()["data"]["keys"]:
            found = operator.post("/v1/auth/token/lookup-accessor", json={"accessor": accessor}).json()
            if "token-broker" in found["data"]["policies"]:
                operator.post("/v1/auth/token/revoke-accessor", json={"accessor": accessor}).raise_for_status()
    assert httpx.get(world.url() + "/readyz", trust_env=False).status_code == 200
    world.started(alice)
    assert world.node_token("node-a", run.id).status_code == 200


def test_no_old_refresh_token_stays_readable_in_vault(world: World) -> None:
    grant, run = world.started(world.user())
    until_stale()
    assert wait_for("a fresh token", lambda: fresh_token(world, run).status_code == 200)
    with world.bao.as_operator() as operator:
        found = operator.get(f"/v1/gdi/metadata/grants/{grant.id}").json()["data"]
        assert found["current_version"] > 1 and len(found["versions"]) == 1


def test_no_secret_is_in_the_log_or_in_the_database_after_all_that(world: World) -> None:
    alice = world.user()
    ticket = world.ticket(alice, world.grant(alice).id)
    world.admit(ticket)
    refused(world.admit, ticket)
    world.faults({"path": "/oidc/userinfo", "status": 500})
    refused(world.admit, world.ticket(alice, world.grant(alice).id))
    world.brokers[0].stop()
    issued = (world.folder / "issued-tokens").read_text().split()
    assert len(issued) > 20
    planted = [*issued, ticket, *world.secrets.values(), world.bao.secret_id_file.read_text()]
    written = {f.name: f.read_bytes() for f in world.folder.iterdir() if f.name.startswith("broker")}
    assert any(n.startswith("broker.db") for n in written) and len(written["broker-0.log"]) > 500
    for name, content in written.items():
        assert [s[:6] for s in planted if s.encode() in content] == [], name
        assert not re.search(rb"eyJ[A-Za-z0-9_-]{20,}\.eyJ", content), name
