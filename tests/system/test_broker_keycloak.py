"""The broker against a real Keycloak with strict refresh rotation: sign-in, exchange, narrowing, refresh by two
replicas, recovery, revocation.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx
import jwt
import pytest

from gdi.broker_client.client import BrokerClient
from gdi.client import login as login_module
from gdi.client.login import DeviceLogin
from gdi.kit.problem import ProblemError
from gdi.local_federation.openbao import OpenBao
from tests.support.broker_kit import DATASETS, refused, wait_for
from tests.support.keycloak_kit import Keycloak, KeycloakWorld, decide_device, login

pytestmark = [pytest.mark.system, pytest.mark.xdist_group("system-keycloak")]
pytest_plugins = ["tests.support.broker_fixtures"]
ACCESS = 60  # seconds; asking for more than is left forces a refresh
FRESH = ACCESS - 3.5  # what a busy machine may need between a token's issue and its use


@pytest.fixture(scope="module")
def world(keycloak: Keycloak, openbao: OpenBao, tmp_path_factory: pytest.TempPathFactory) -> Iterator[KeycloakWorld]:
    made = KeycloakWorld(
        tmp_path_factory.mktemp("keycloak-world"), openbao, keycloak, access=ACCESS, broker_env={"LEASE_SECONDS": "13"}
    )
    try:
        for replica in (0, 1):
            made.start_broker(replica)
        yield made
    finally:
        made.stop()


def until_stale() -> None:
    """The access token of a grant just made or refreshed has less than FRESH seconds left."""
    time.sleep(ACCESS - FRESH + 0.2)


def fresh_token(world: KeycloakWorld, run: str, replica: int = 0) -> httpx.Response:
    return world.node_token("node-a", run, min_ttl=FRESH, replica=replica)


def test_a_portals_token_becomes_a_grant_and_a_run_under_real_visas(world: KeycloakWorld) -> None:
    exchanged = world.events("TOKEN_EXCHANGE")
    grant, run = world.started(world.alice())
    assert world.events("TOKEN_EXCHANGE") == exchanged + 1
    assert grant.user == run.user == world.subs["alice"]
    assert [(p.node, p.datasets) for p in run.plan] == [(n, [d]) for n, d in DATASETS.items()]
    kept = world.kept(grant.id)["data"]
    assert world.introspect(kept["refresh_token"])["client_id"] == "token-broker", (
        "the broker's own token, not the portal's"
    )
    assert kept["refresh_token"] not in repr(grant)


def test_who_has_no_visa_or_came_by_no_portal_starts_nothing(world: KeycloakWorld) -> None:
    bob = world.user("bob")
    denied = refused(world.started, bob)
    assert denied.slug == "access-denied" and all(d in denied.problem.detail for d in DATASETS.values())
    assert refused(world.grant, world.user("alice", client="stranger")).slug == "unauthenticated"
    world.publish([])
    try:
        assert refused(world.started, world.alice()).slug == "access-denied", "read anew at each start"
    finally:
        world.publish(world.visas)


def test_a_node_gets_a_token_that_serves_at_its_own_service_with_the_passport(world: KeycloakWorld) -> None:
    _, run = world.started(world.alice())
    token = world.node_token("node-a", run.id).json()["token"]
    claims = jwt.decode(token, options={"verify_signature": False})
    assert claims["aud"] == "http://sda.node-a" and claims["sub"] == world.subs["alice"]
    assert world.userinfo(token).json() == {"sub": world.subs["alice"], "ga4gh_passport_v1": world.visas}, (
        "what an SDA reads with it"
    )
    assert world.introspect(token, "http://sda.node-a", world.secrets["admin"])["active"] is True, "what a TES asks"
    with httpx.Client(
        base_url=world.url(), headers={"Authorization": f"Bearer {token}"}, trust_env=False, timeout=30
    ) as http:
        assert http.get("/v1/grants").status_code == 401, "at the broker itself it is worth nothing"


def test_a_user_signs_in_at_the_brokers_own_page_by_code_and_pkce(world: KeycloakWorld) -> None:
    with httpx.Client(base_url=world.url(), trust_env=False, timeout=30) as browser:
        away = browser.get(f"/connect?workflows=allele-frequency&datasets={','.join(DATASETS.values())}").headers[
            "location"
        ]
        # This client may not sign anybody in without PKCE: that it works below shows that the broker uses it.
        bare = httpx.get(re.sub(r"&code_challenge[^&]*", "", away), trust_env=False, timeout=30)
        assert "Missing+parameter%3A+code_challenge_method" in bare.headers["location"]
        back = browser.get(login(away, "alice", world.secrets["alice"]))
        assert back.status_code == 303, back.text
        page = browser.get(back.headers["location"])
        assert page.status_code == 200 and "(you have no access to it now)" not in page.text
        found = re.search(r'name="csrf" value="([^"]+)"', page.text)
        assert found is not None
        form = {
            "csrf": found[1],
            "workflows": "allele-frequency",
            "datasets": list(DATASETS.values()),
            "days": "1",
            "mode": "standing",
            "label": "kc",
        }
        done = browser.post("/connect/consent", data=form)
        assert done.status_code == 303, done.text
        grant = re.findall(r"/connect/grants/(g-[0-9a-f]{32})/revoke", browser.get(done.headers["location"]).text)[0]
    run = world.admit(world.ticket(world.alice(), grant))
    until_stale()
    assert fresh_token(world, run.id).status_code == 200, "the page's refresh token serves, too"


def test_a_terminals_user_signs_in_by_device_code(world: KeycloakWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    hint = {"issuer": world.issuer, "client_id": "terminal", "scope": "openid offline_access ga4gh_passport_v1"}
    get = login_module._get
    monkeypatch.setattr(login_module, "_get", lambda http, url: hint if url == "p/v1/sign-in" else get(http, url))
    device = DeviceLogin.begin("p")
    decide_device(device.whole, "alice", world.secrets["alice"], allow=False)
    with pytest.raises(ProblemError, match="You refused the sign-in"):
        device.wait()
    device = DeviceLogin.begin("p")
    decide_device(device.whole, "alice", world.secrets["alice"], allow=True)
    terminal = device.wait()
    user = BrokerClient(world.url(), terminal.access_token)
    grant, run = world.started(user)
    assert grant.user == world.subs["alice"] and world.node_token("node-a", run.id).status_code == 200
    before, terminal.until = terminal.access, 0
    assert terminal.access_token() != before, "renewed without a browser"
    assert user.get_grant(grant.id).state == "active"


def test_two_replicas_that_must_refresh_at_once_redeem_each_token_once(world: KeycloakWorld) -> None:
    grant, run = world.started(world.alice())
    before, rounds = world.events("REFRESH_TOKEN"), 3
    with ThreadPoolExecutor(8) as pool:
        for _ in range(rounds):
            until_stale()
            answers = list(pool.map(lambda i: fresh_token(world, run.id, i % 2), range(8)))
            assert [a.status_code for a in answers] == [200] * 8, [a.text for a in answers if a.status_code != 200]
    count = world.events("REFRESH_TOKEN") - before
    assert rounds <= count <= rounds + 2, (
        "one for each round of eight; a machine that stalls for seconds may need another"
    )
    assert world.events("REFRESH_TOKEN_ERROR") == 0
    assert world.alice().get_grant(grant.id).refreshes == count
    assert world.alice(1).get_grant(grant.id).state == "active"


def test_a_refresh_interrupted_before_the_token_was_redeemed_goes_on(world: KeycloakWorld) -> None:
    grant, run = world.started(world.alice())
    until_stale()
    world.keep(grant.id, lambda held: {**held, "redeeming": "dead-replica", "redeeming_until": time.time() - 1})
    assert fresh_token(world, run.id, 1).status_code == 200
    assert world.events("REFRESH_TOKEN_ERROR") == 0
    assert "the refresh token had not been redeemed" in (world.folder / "broker-1.log").read_text()


def test_a_refresh_whose_answer_was_lost_is_saved_by_the_last_access_token_and_nothing_is_replayed(
    world: KeycloakWorld,
) -> None:
    grant, run = world.started(world.alice())
    until_stale()
    lost = world.kept(grant.id)["data"]["refresh_token"]
    world.token(
        "token-broker", world.secrets["broker"], grant_type="refresh_token", refresh_token=lost
    ).raise_for_status()
    world.keep(grant.id, lambda held: {**held, "redeeming": "dead-replica", "redeeming_until": time.time() - 1})
    answer = fresh_token(world, run.id, 1)
    assert answer.status_code == 200, answer.text
    assert world.events("REFRESH_TOKEN_ERROR") == 0, "a replay would have ended the whole session"
    until_stale()
    assert fresh_token(world, run.id, 0).status_code == 200
    assert world.alice().get_grant(grant.id).state == "active"


def test_revocation_denies_at_once_and_reaches_keycloak(world: KeycloakWorld) -> None:
    alice = world.alice()
    grant, run = world.started(alice)
    _, other = world.started(world.alice())  # another sign-in
    held, before = world.kept(grant.id)["data"], world.events("REVOKE_GRANT")
    assert world.introspect(held["refresh_token"])["active"] is True
    alice.revoke_grant(grant.id)
    for replica in (0, 1):
        assert world.node_token("node-a", run.id, replica=replica).json()["type"].endswith("grant-inactive")
    wait_for("Keycloak heard of it", lambda: world.events("REVOKE_GRANT") > before)
    assert world.introspect(held["refresh_token"]) == {"active": False}
    with world.bao.as_operator() as operator:
        wait_for(
            "the record is destroyed", lambda: operator.get(f"/v1/gdi/metadata/grants/{grant.id}").status_code == 404
        )
    until_stale()
    assert fresh_token(world, other.id).status_code == 200, "a grant of another sign-in goes on"


def test_where_keycloak_ends_a_whole_session_the_other_grants_of_that_sign_in_are_said_to_be_dead(
    world: KeycloakWorld,
) -> None:
    """Keycloak keeps one session for a client and sign-in: revoking one refresh token of it ends its siblings. Nobody
    hangs, nobody retries for ever.
    """
    alice = world.alice()  # one sign-in, two grants
    first, _ = world.started(alice)
    second, run = world.started(alice)
    before = world.events("REVOKE_GRANT")
    alice.revoke_grant(first.id)
    wait_for("Keycloak heard of it", lambda: world.events("REVOKE_GRANT") > before)
    until_stale()
    started = time.monotonic()
    answer = fresh_token(world, run.id)
    assert (answer.status_code, answer.json()["state"]) == (403, "dead") and "consent again" in answer.json()["action"]
    assert time.monotonic() - started < 5
    assert world.alice().get_grant(second.id).state == "dead"


def test_this_keycloak_is_strict_a_replayed_token_ends_the_grant(world: KeycloakWorld) -> None:
    """The proof that the counts above mean something: here the token is replayed on purpose, by a thief."""
    grant, run = world.started(world.alice())
    stolen = world.kept(grant.id)["data"]["refresh_token"]
    until_stale()
    assert fresh_token(world, run.id).status_code == 200
    errors = world.events("REFRESH_TOKEN_ERROR")
    replayed = world.token("token-broker", world.secrets["broker"], grant_type="refresh_token", refresh_token=stolen)
    assert replayed.status_code == 400 and world.events("REFRESH_TOKEN_ERROR") == errors + 1
    until_stale()
    answer = fresh_token(world, run.id, 1)
    assert (answer.status_code, answer.json()["state"]) == (403, "dead"), answer.text
    assert world.alice().get_grant(grant.id).state == "dead"


def test_no_token_and_no_secret_is_in_the_logs_or_the_database_after_all_that(world: KeycloakWorld) -> None:
    grant, _ = world.started(world.alice())
    held = world.kept(grant.id)["data"]
    planted = [
        held["refresh_token"],
        held["access_token"],
        *world.secrets.values(),
        world.bao.secret_id_file.read_text(),
        *world.visas,
    ]
    written = {f.name: f.read_bytes() for f in world.folder.iterdir() if f.name.startswith("broker")}
    assert len(written["broker-0.log"]) > 300 and any(n.startswith("broker.db") for n in written)
    for name, content in written.items():
        assert [s[:6] for s in planted if s.encode() in content] == [], name
        assert not re.search(rb"eyJ[A-Za-z0-9_-]{20,}\.eyJ", content), name
