"""Signing in at the LS AAI stand-in: nothing is redirected to a stranger, nothing is guessed, a code or device serves
once. And REMS's visas.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import jwt
import pytest

from gdi.kit import jose
from gdi.kit.secret_files import write_private
from gdi.kit.settings import SettingsError
from gdi.local_federation.aai import config as settings
from gdi.local_federation.aai.client import SignInError, pkce, sign_in, submit_login
from gdi.local_federation.aai.running import BROKER, PORTAL, PUBLIC, REDIRECT, RunningAai, running_aai

DEVICE = "urn:ietf:params:oauth:grant-type:device_code"


@pytest.fixture(scope="module")
def aai(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningAai]:
    with running_aai(tmp_path_factory.mktemp("aai"), device_interval=1) as running:
        yield running


@pytest.fixture
def browser() -> Iterator[httpx.Client]:
    with httpx.Client(timeout=60, trust_env=False) as client:
        yield client


def asked(**changes: str | None) -> dict[str, str]:
    params = {
        "response_type": "code",
        "client_id": PORTAL,
        "redirect_uri": REDIRECT,
        "scope": "openid offline_access",
        "state": "s-1",
    }
    params |= {"code_challenge": pkce()[1], "code_challenge_method": "S256"}
    return {k: v for k, v in (params | changes).items() if v is not None}


def code_for(aai: RunningAai, browser: httpx.Client, challenge: str) -> str:
    url = str(httpx.URL(aai.issuer + "/authorize", params=asked(code_challenge=challenge)))
    back = parse_qs(urlsplit(submit_login(browser, url, "alice", aai.secrets.read("user-alice"))).query)
    assert back["state"] == ["s-1"] and back["iss"] == [aai.issuer]
    return back["code"][0]


def redeem(aai: RunningAai, code: str, verifier: str, client: str = PORTAL, redirect: str = REDIRECT) -> httpx.Response:
    form = {"grant_type": "authorization_code", "code": code, "code_verifier": verifier, "redirect_uri": redirect}
    return httpx.post(aai.issuer + "/token", data=form, auth=(client, aai.secret(client)))


@pytest.mark.parametrize(
    "wrong",
    [
        {"redirect_uri": "https://evil.example/"},
        {"redirect_uri": REDIRECT + "/more"},
        {"redirect_uri": None},
        {"client_id": "nobody"},
        {"client_id": None},
    ],
)
def test_a_stranger_is_never_redirected_to(
    aai: RunningAai, browser: httpx.Client, wrong: dict[str, str | None]
) -> None:
    answer = browser.get(aai.issuer + "/authorize", params=asked(**wrong))
    assert answer.status_code == 400 and "location" not in answer.headers and "evil" not in answer.text
    assert "frame-ancestors 'none'" in answer.headers["content-security-policy"]


def test_a_parameter_given_twice_is_not_served(aai: RunningAai, browser: httpx.Client) -> None:
    pairs = [*asked().items(), ("redirect_uri", "https://evil.example/")]
    answer = browser.get(aai.issuer + "/authorize", params=pairs)
    assert answer.status_code == 400 and "location" not in answer.headers


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"code_challenge": None}, "invalid_request"),
        ({"code_challenge_method": "plain"}, "invalid_request"),
        ({"code_challenge_method": None}, "invalid_request"),
        ({"response_type": "token"}, "unsupported_response_type"),
        ({"scope": "openid everything"}, "invalid_scope"),
        ({"scope": "offline_access"}, "invalid_scope"),
        ({"prompt": "none"}, "login_required"),
    ],
)
def test_what_else_is_wrong_goes_back_with_the_state(
    aai: RunningAai, browser: httpx.Client, wrong: dict[str, str | None], said: str
) -> None:
    answer = browser.get(aai.issuer + "/authorize", params=asked(**wrong))
    back = parse_qs(urlsplit(answer.headers["location"]).query)
    assert (
        answer.headers["location"].startswith(REDIRECT + "?")
        and back["error"] == [said]
        and back["state"] == ["s-1"]
        and back["iss"] == [aai.issuer]
    )


def test_a_code_serves_once_and_its_second_use_ends_what_it_gave(aai: RunningAai, browser: httpx.Client) -> None:
    verifier, challenge = pkce()
    code = code_for(aai, browser, challenge)
    given = redeem(aai, code, verifier)
    assert given.status_code == 200
    assert redeem(aai, code, verifier).json()["error"] == "invalid_grant"
    again = httpx.post(
        aai.issuer + "/token",
        data={"grant_type": "refresh_token", "refresh_token": given.json()["refresh_token"]},
        auth=(PORTAL, aai.secret(PORTAL)),
    )
    assert again.json()["error"] == "invalid_grant"


def test_a_stolen_code_is_worth_nothing(aai: RunningAai, browser: httpx.Client) -> None:
    verifier, challenge = pkce()
    thefts: list[dict[str, Any]] = [
        {"verifier": pkce()[0]},
        {"verifier": verifier, "client": BROKER},
        {"verifier": verifier, "redirect": REDIRECT + "/x"},
    ]
    for theft in thefts:
        code = code_for(aai, browser, challenge)
        assert redeem(aai, code, **theft).json()["error"] == "invalid_grant"
        assert redeem(aai, code, verifier).json()["error"] == "invalid_grant", "one try only"
    assert redeem(aai, "unknown", verifier).json()["error"] == "invalid_grant"


def test_passwords_cannot_be_tried_for_ever(aai: RunningAai, browser: httpx.Client) -> None:
    page = browser.get(aai.issuer + "/authorize", params=asked())
    login = page.text.split('name="login" value="')[1].split('"')[0]
    form = {"login": login, "username": "alice", "password": "wrong-password"}
    answers = [browser.post(aai.issuer + "/authorize", data=form) for _ in range(5)]
    assert [a.status_code for a in answers] == [401] * 4 + [400]
    right = browser.post(aai.issuer + "/authorize", data={**form, "password": aai.secrets.read("user-alice")})
    assert right.status_code == 400 and "location" not in right.headers
    with pytest.raises(SignInError, match="wrong") as caught:
        sign_in(
            aai.issuer,
            client_id=PUBLIC,
            client_secret=None,
            redirect_uri=REDIRECT,
            username="alice",
            password="wrong-password",
        )
    assert "wrong-password" not in str(caught.value)


def test_clients_prove_who_they_are_in_one_way(aai: RunningAai) -> None:
    url, right = aai.issuer + "/introspect", aai.secret(BROKER)
    for auth in ((BROKER, "wrong"), ("nobody", right), (PUBLIC, ""), (BROKER, "")):
        answer = httpx.post(url, data={"token": "x"}, auth=auth)
        assert answer.status_code in (401, 403) and answer.json()["error"] in ("invalid_client", "unauthorized_client")
    assert (
        'Basic realm="aai"' in httpx.post(url, data={"token": "x"}, auth=(BROKER, "wrong")).headers["www-authenticate"]
    )
    assert httpx.post(url, data={"token": "x", "client_id": BROKER, "client_secret": right}).json() == {"active": False}
    assert (
        httpx.post(url, data={"token": "x", "client_secret": right}, auth=(BROKER, right)).json()["error"]
        == "invalid_request"
    )
    assert httpx.post(url, data={"token": "x"}).json()["error"] == "invalid_client"


def test_requests_are_bounded_and_well_formed(aai: RunningAai) -> None:
    url, auth = aai.issuer + "/token", (BROKER, aai.secret(BROKER))
    assert httpx.post(url, content=b"a=" + b"x" * 100_000, auth=auth).status_code == 413
    assert httpx.post(url, json={"grant_type": "refresh_token"}, auth=auth).json()["error"] == "invalid_request"
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    for body in (
        b"grant_type=refresh_token&grant_type=refresh_token",
        b"&".join(b"a%d=1" % i for i in range(60)),
        b"grant_type=%ff%fe",
        b"grant_type=",
    ):
        answer = httpx.post(url, content=body, headers=form, auth=auth)
        assert (answer.status_code, answer.json()["error"]) == (400, "invalid_request"), body


def test_a_device_is_let_in_by_its_user_once(aai: RunningAai, browser: httpx.Client) -> None:
    def start() -> dict[str, Any]:
        found: dict[str, Any] = browser.post(
            aai.issuer + "/devicecode", data={"client_id": PUBLIC, "scope": "openid offline_access"}
        ).json()
        return found

    def poll(device: dict[str, Any]) -> dict[str, Any]:
        found: dict[str, Any] = browser.post(
            aai.issuer + "/token",
            data={"grant_type": DEVICE, "device_code": device["device_code"], "client_id": PUBLIC},
        ).json()
        return found

    def decide(device: dict[str, Any], decision: str, password: str) -> int:
        form = {
            "user_code": device["user_code"].lower(),
            "username": "alice",
            "password": password,
            "decision": decision,
        }
        return browser.post(device["verification_uri"], data=form).status_code

    right = aai.secrets.read("user-alice")
    device = start()
    assert device["interval"] == 1 and device["user_code"] in browser.get(device["verification_uri_complete"]).text
    assert poll(device)["error"] == "authorization_pending"
    assert poll(device)["error"] == "slow_down"
    fresh = start()
    assert decide(fresh, "allow", "wrong") == 401 and decide(fresh, "allow", right) == 200
    tokens = poll(fresh)
    assert tokens["refresh_token"] and tokens["token_type"] == "Bearer"
    assert poll(fresh)["error"] == "invalid_grant"
    refused = start()
    assert decide(refused, "deny", right) == 200 and poll(refused)["error"] == "access_denied"
    assert decide(refused, "allow", right) == 401, "what was decided stays decided"


def test_rems_answers_only_who_may_ask(aai: RunningAai) -> None:
    url, key = aai.url + "/rems/api/permissions/alice@lifescience-ri.eu", aai.secrets.read("rems-api-key")
    assert (lambda a: (a.status_code, a.text))(httpx.get(url)) == (401, "unauthorized")
    assert httpx.get(url, headers={"x-rems-api-key": "wrong", "x-rems-user-id": "owner"}).status_code == 401
    other = httpx.get(url, headers={"x-rems-api-key": key, "x-rems-user-id": "bob@lifescience-ri.eu"})
    assert (other.status_code, other.text) == (403, "forbidden")
    body = {"user": "bob", "dataset": "D"}
    assert (
        httpx.post(
            aai.url + "/rems/api/entitlements", json=body, headers={"x-rems-api-key": key, "x-rems-user-id": "bob"}
        ).status_code
        == 403
    )
    assert httpx.get(aai.issuer + "/admin/stats").status_code == 401
    assert httpx.put(aai.issuer + "/admin/faults", json=[]).status_code == 401


def test_a_visa_is_what_rems_signs(aai: RunningAai) -> None:
    aai.grant("alice", "EGAD1", source="https://dac.example")
    try:
        (visa,) = aai.operator("GET", "/rems/api/permissions/alice@lifescience-ri.eu").json()["ga4gh_passport_v1"]
    finally:
        aai.withdraw("alice", "EGAD1")
    header = jwt.get_unverified_header(visa)
    assert header["alg"] == "RS256" and header["typ"] == "JWT" and header["jku"] == aai.visa_issuer["jku"]
    claims = jose.verify(visa, httpx.get(header["jku"]).json()["keys"], issuer=aai.visa_issuer["iss"], audience=None)
    assert (
        claims["sub"] == "alice@lifescience-ri.eu"
        and claims["exp"] > time.time() + 300 * 86400
        and "scope" not in claims
    )
    expected = {"type": "ControlledAccessGrants", "value": "EGAD1", "source": "https://dac.example", "by": "dac"}
    assert {k: v for k, v in claims["ga4gh_visa_v1"].items() if k != "asserted"} == expected
    assert abs(claims["ga4gh_visa_v1"]["asserted"] - time.time()) < 60


def test_bad_visas_are_bad_in_the_way_they_say(aai: RunningAai) -> None:
    rems = httpx.get(aai.visa_issuer["jku"]).json()["keys"]
    rogue = httpx.get(aai.url + "/rogue/api/jwk").json()["keys"]
    for variant in ("expired", "bad-signature", "untrusted-jku", "untrusted-issuer"):
        aai.grant("bob", "D", variant=variant)
        (visa,) = aai.operator("GET", "/rems/api/permissions/bob@lifescience-ri.eu").json()["ga4gh_passport_v1"]
        aai.withdraw("bob", "D")
        header, claims = jwt.get_unverified_header(visa), jwt.decode(visa, options={"verify_signature": False})
        assert (claims["exp"] < time.time()) == (variant == "expired")
        assert (claims["iss"] != aai.visa_issuer["iss"]) == (variant == "untrusted-issuer")
        assert (header["jku"] != aai.visa_issuer["jku"]) == (variant in ("untrusted-jku", "untrusted-issuer"))
        with pytest.raises(jose.TokenError):
            jose.verify(visa, rems, issuer=aai.visa_issuer["iss"], audience=None)
        if variant == "untrusted-issuer":
            jose.verify(visa, rogue, issuer=aai.url + "/rogue/", audience=None)


def test_a_grant_that_ended_gives_no_visa(aai: RunningAai) -> None:
    aai.grant("bob", "D", expires_in=-60)
    try:
        path = "/rems/api/permissions/bob@lifescience-ri.eu"
        assert aai.operator("GET", path).json()["ga4gh_passport_v1"] == []
        assert len(aai.operator("GET", path, params={"expired": "true"}).json()["ga4gh_passport_v1"]) == 1
    finally:
        aai.withdraw("bob", "D")


def test_a_wrong_setting_is_named_and_no_secret_shown(tmp_path: Path) -> None:
    write_private(tmp_path / "key", "0123456789")
    good = "admin_key_file: key\nrems_api_key_file: key\nclients: []\n"
    cases = {
        "port: 99999\nusers: []": "port",
        "users: [{name: alice, password: hunter2hunter2, colour: red}]": "users.0.colour",
        "users: []\nlifetimes: {access: 0}": "lifetimes.access",
        "users: [{name: a, password_file: none}]": "none: No such file",
        "users: [{name: a, password: hunter2hunter2}, {name: a, password: hunter2hunter2}]": "twice",
        "users: [": "not YAML",
    }
    for text, named in cases.items():
        (tmp_path / "c.yaml").write_text(good + text)
        with pytest.raises(SettingsError, match=named) as caught:
            settings.load(tmp_path / "c.yaml")
        assert "hunter2" not in str(caught.value)
