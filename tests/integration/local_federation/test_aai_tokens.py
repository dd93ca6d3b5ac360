"""The LS AAI stand-in keeps the provider's promises about tokens: rotation, families, exchange, narrowing, revocation,
restarts. A real process each time.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from gdi.kit import jose
from gdi.local_federation.aai.running import BROKER, PORTAL, PUBLIC, RESOURCE, RunningAai, running_aai

pytestmark = pytest.mark.long
TYPE = "urn:ietf:params:oauth:token-type:"
EXCHANGE = "urn:ietf:params:oauth:grant-type:token-exchange"
ALICE = "alice@lifescience-ri.eu"


@pytest.fixture(scope="module")
def aai(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningAai]:
    with running_aai(tmp_path_factory.mktemp("aai"), entitlements=[{"user": "alice", "dataset": "D1"}]) as running:
        yield running


def post(aai: RunningAai, path: str, client: str = BROKER, **form: Any) -> httpx.Response:
    return httpx.post(aai.issuer + path, data=form, auth=(client, aai.secret(client)), timeout=60, trust_env=False)


def exchange(aai: RunningAai, subject: str, *, client: str = BROKER, **form: Any) -> httpx.Response:
    return post(
        aai,
        "/token",
        client,
        grant_type=EXCHANGE,
        subject_token=subject,
        subject_token_type=TYPE + "access_token",
        **form,
    )


def refresh(aai: RunningAai, token: str, client: str = BROKER, **form: Any) -> httpx.Response:
    return post(aai, "/token", client, grant_type="refresh_token", refresh_token=token, **form)


def grant(aai: RunningAai) -> str:
    """The broker's own refresh token, exchanged for the portal's access token."""
    answer = exchange(aai, aai.sign_in().access_token, requested_token_type=TYPE + "refresh_token")
    assert answer.status_code == 200, answer.text
    return str(answer.json()["access_token"])


def active(aai: RunningAai, token: str, client: str = RESOURCE) -> bool:
    return bool(post(aai, "/introspect", client, token=token).json()["active"])


def error(answer: httpx.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["error"]


def eventually(condition: Callable[[], bool], seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "the condition did not come true in time"
        time.sleep(0.05)


def test_an_access_token_verifies_by_the_published_keys(aai: RunningAai) -> None:
    found = httpx.get(aai.issuer + "/.well-known/openid-configuration").json()
    assert found["issuer"] == aai.issuer and found["code_challenge_methods_supported"] == ["S256"]
    keys = httpx.get(found["jwks_uri"]).json()["keys"]
    assert all("d" not in key and key["alg"] == "RS256" for key in keys)
    tokens = aai.sign_in()
    claims = jose.verify(tokens.access_token, keys, issuer=aai.issuer, audience=PORTAL)
    assert claims["sub"] == ALICE and claims["client_id"] == PORTAL and "offline_access" in claims["scope"].split()
    assert claims["exp"] - claims["iat"] == tokens.expires_in == 600 and claims["jti"]
    identity = jose.verify(tokens.id_token or "", keys, issuer=aai.issuer, audience=PORTAL)
    assert identity["sub"] == ALICE and identity["nonce"]


def test_the_exchange_answers_by_the_letter_of_rfc_8693(aai: RunningAai) -> None:
    answer = exchange(aai, aai.sign_in().access_token, requested_token_type=TYPE + "refresh_token")
    body = answer.json()
    assert (
        body["issued_token_type"] == TYPE + "refresh_token"
        and body["token_type"] == "N_A"
        and body["refresh_expires_in"] == 3600
    )
    assert answer.headers["cache-control"] == "no-store"
    renewed = refresh(aai, body["access_token"]).json()
    assert (
        renewed["refresh_token"] != body["access_token"]
        and renewed["refresh_expires_in"] == 3600
        and active(aai, renewed["access_token"])
    )


def test_a_refresh_token_used_twice_takes_its_whole_family_along(aai: RunningAai) -> None:
    before = aai.stats()["reuse_detected"]
    first = grant(aai)
    second = refresh(aai, first).json()
    narrowed = exchange(aai, second["access_token"], audience="http://node").json()["access_token"]
    assert active(aai, narrowed)
    assert error(refresh(aai, first)) == (400, "invalid_grant")
    assert error(refresh(aai, second["refresh_token"])) == (400, "invalid_grant")
    assert not active(aai, second["access_token"]) and not active(aai, narrowed)
    assert aai.stats()["reuse_detected"] == before + 1


def test_of_many_at_once_one_redeems_a_refresh_token(aai: RunningAai) -> None:
    token = grant(aai)
    with ThreadPoolExecutor(12) as pool:
        answers = list(pool.map(lambda _: refresh(aai, token).status_code, range(12)))
    assert sorted(answers) == [200] + [400] * 11


def test_a_refresh_token_serves_its_own_client_only(aai: RunningAai) -> None:
    token = grant(aai)
    assert error(refresh(aai, token, PORTAL)) == (400, "invalid_grant")
    assert refresh(aai, token).status_code == 200, "a stranger's try must not have used it up"
    assert not active(aai, grant(aai)), "a resource server was told that a refresh token is an active token"


def test_the_portals_end_does_not_end_the_brokers_grant(aai: RunningAai) -> None:
    tokens = aai.sign_in()
    mine = exchange(aai, tokens.access_token, requested_token_type=TYPE + "refresh_token").json()["access_token"]
    assert post(aai, "/revoke", PORTAL, token=tokens.refresh_token).status_code == 200
    assert not active(aai, tokens.access_token)
    assert refresh(aai, mine).status_code == 200


def test_a_narrowed_token_is_for_its_audience_shorter_and_at_an_end(aai: RunningAai) -> None:
    broad = refresh(aai, grant(aai)).json()
    answer = exchange(
        aai,
        broad["access_token"],
        audience=["http://sda-a", "http://tes-a"],
        requested_token_type=TYPE + "access_token",
    ).json()
    seen = post(aai, "/introspect", RESOURCE, token=answer["access_token"]).json()
    assert seen["aud"] == ["http://sda-a", "http://tes-a"] and seen["sub"] == ALICE and seen["client_id"] == BROKER
    assert "offline_access" not in seen["scope"].split()
    assert seen["exp"] <= post(aai, "/introspect", RESOURCE, token=broad["access_token"]).json()["exp"]
    info = httpx.get(aai.issuer + "/userinfo", headers={"Authorization": f"Bearer {answer['access_token']}"}).json()
    assert info["sub"] == ALICE and len(info["ga4gh_passport_v1"]) == 1
    for more in ({"audience": "http://sda-b"}, {"requested_token_type": TYPE + "refresh_token"}):
        assert error(exchange(aai, answer["access_token"], **more)) == (
            400,
            "invalid_request",
        ), "a narrowed token was widened"


def test_exchanges_that_are_not_allowed_are_refused(aai: RunningAai) -> None:
    access = aai.sign_in().access_token
    assert error(exchange(aai, access, client=PORTAL, audience="x")) == (400, "unauthorized_client")
    assert error(exchange(aai, access)) == (400, "invalid_request")
    assert error(exchange(aai, "nonsense", audience="x")) == (400, "invalid_request")
    assert error(exchange(aai, access, audience="x", scope="openid admin")) == (400, "invalid_scope")
    assert error(exchange(aai, access, requested_token_type=TYPE + "saml2")) == (400, "invalid_request")
    assert error(post(aai, "/token", grant_type="password", username="alice", password="x")) == (
        400,
        "unsupported_grant_type",
    )
    small = aai.sign_in(scope="openid").access_token
    assert error(
        exchange(aai, small, requested_token_type=TYPE + "refresh_token", scope="openid ga4gh_passport_v1")
    ) == (400, "invalid_scope")


def test_the_grant_keeps_its_scope_when_less_is_asked_for_once(aai: RunningAai) -> None:
    less = refresh(aai, grant(aai), scope="openid").json()
    assert less["scope"] == "openid"
    assert "ga4gh_passport_v1" in refresh(aai, less["refresh_token"]).json()["scope"]
    assert error(refresh(aai, grant(aai), scope="openid admin")) == (400, "invalid_scope")


def test_revocation_ends_a_grant_at_once_and_tells_nothing(aai: RunningAai) -> None:
    first = grant(aai)
    renewed = refresh(aai, first).json()
    assert post(aai, "/revoke", PORTAL, token=renewed["refresh_token"]).status_code == 200
    assert active(aai, renewed["access_token"]), "another client revoked it"
    assert post(aai, "/revoke", token=renewed["refresh_token"]).status_code == 200
    assert not active(aai, renewed["access_token"])
    assert error(refresh(aai, renewed["refresh_token"])) == (400, "invalid_grant")
    assert post(aai, "/revoke", token="unknown").status_code == 200


def test_userinfo_refuses_in_rfc_6750s_form(aai: RunningAai) -> None:
    def ask(token: str | None) -> httpx.Response:
        return httpx.get(aai.issuer + "/userinfo", headers={"Authorization": f"Bearer {token}"} if token else {})

    assert ask(None).status_code == 401 and ask(None).headers["www-authenticate"] == "Bearer"
    for bad in ("x", grant(aai), aai.sign_in().id_token):
        assert (
            error(ask(bad)) == (401, "invalid_token")
            and 'error="invalid_token"' in ask(bad).headers["www-authenticate"]
        )
    assert "ga4gh_passport_v1" not in ask(aai.sign_in(scope="openid").access_token).json()


def test_tokens_live_for_seconds_where_told_so(tmp_path: Path) -> None:
    with running_aai(
        tmp_path, lifetimes={"access": 4, "refresh": 6}, rotation="none", exchange_answer="keycloak"
    ) as short:
        body = exchange(short, short.sign_in().access_token, requested_token_type=TYPE + "refresh_token").json()
        assert body["expires_in"] == 4 and body["refresh_expires_in"] == 6 and body["token_type"] == "Bearer"
        for _ in range(3):
            again = refresh(short, body["refresh_token"])
            assert again.status_code == 200 and "refresh_token" not in again.json(), (
                "without rotation the token stays the same"
            )
        assert short.stats()["refreshes"] == {ALICE: 3}
        eventually(lambda: not active(short, body["access_token"]))
        eventually(lambda: refresh(short, body["refresh_token"]).status_code == 400)


def test_nothing_is_forgotten_when_it_is_killed(tmp_path: Path) -> None:
    with running_aai(tmp_path, entitlements=[{"user": "alice", "dataset": d} for d in ("D1", "D2")]) as mortal:
        first = grant(mortal)
        second = refresh(mortal, first).json()
        mortal.withdraw("alice", "D1")
        mortal.stop(kill=True)
        mortal.start()
        assert active(mortal, second["access_token"])
        visas = httpx.get(
            mortal.issuer + "/userinfo", headers={"Authorization": f"Bearer {second['access_token']}"}
        ).json()["ga4gh_passport_v1"]
        assert len(visas) == 1, "what was withdrawn came back"
        third = refresh(mortal, second["refresh_token"])
        assert third.status_code == 200
        assert error(refresh(mortal, first)) == (400, "invalid_grant") and mortal.stats()["reuse_detected"] == 1
        state = b"".join(p.read_bytes() for p in tmp_path.glob("aai.sqlite*"))
        for secret in (first, second["refresh_token"], second["access_token"], mortal.secret(BROKER)):
            assert secret.encode() not in state
        assert (tmp_path / "aai.sqlite").stat().st_mode & 0o077 == 0


def test_a_refresh_may_be_redeemed_and_its_answer_lost(aai: RunningAai) -> None:
    token = grant(aai)
    aai.faults({"path": "/oidc/token", "when": "after", "status": 503})
    assert refresh(aai, token).status_code == 503
    assert error(refresh(aai, token)) == (400, "invalid_grant"), "the fault must come after the redemption"


def test_every_token_issued_is_on_record_where_a_leak_test_asks(tmp_path: Path) -> None:
    with running_aai(tmp_path, record_issued="issued.txt") as recorded:
        tokens = recorded.sign_in()
        issued = (tmp_path / "issued.txt").read_text().splitlines()
        assert tokens.access_token in issued and tokens.refresh_token in issued
        assert (tmp_path / "issued.txt").stat().st_mode & 0o077 == 0


def test_it_does_not_outlive_its_parent(tmp_path: Path) -> None:
    with running_aai(tmp_path / "made") as made:
        config = {
            **made.config,
            "port": 0,
            "state_file": str(tmp_path / "s.sqlite"),
            "ready_file": str(tmp_path / "ready.json"),
        }
    (tmp_path / "c.yaml").write_text(yaml.safe_dump(config))
    program = "import subprocess, sys, pathlib, time\n"
    program += (
        f"subprocess.Popen([sys.executable, '-m', 'gdi.local_federation.aai', '--config', {str(tmp_path / 'c.yaml')!r},"
        " '--with-parent'])\n"
    )
    program += f"while not pathlib.Path({str(tmp_path / 'ready.json')!r}).exists(): time.sleep(0.05)\n"
    subprocess.run([sys.executable, "-c", program], check=True, timeout=120)
    url = yaml.safe_load((tmp_path / "ready.json").read_text())["url"]

    def gone() -> bool:
        try:
            httpx.get(url + "/oidc/jwk", timeout=10)
        except httpx.ConnectError:
            return True
        return False

    eventually(gone)


def test_a_public_client_refreshes_by_its_id_alone(aai: RunningAai) -> None:
    tokens = aai.sign_in(client_id=PUBLIC)
    form = {"grant_type": "refresh_token", "refresh_token": tokens.refresh_token, "client_id": PUBLIC}
    assert httpx.post(aai.issuer + "/token", data=form).status_code == 200
    assert error(httpx.post(aai.issuer + "/introspect", data={"token": tokens.access_token, "client_id": PUBLIC})) == (
        403,
        "unauthorized_client",
    )
