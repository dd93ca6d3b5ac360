"""A provider whose ways are not Keycloak's: it narrows by `resource` only (RFC 8707), keeps its refresh tokens, tells
no lifetimes, and says of each refresh token that it knows none. A grant lives there as anywhere.
"""

from __future__ import annotations

import time
from collections.abc import Iterator

import httpx
import jwt
import pytest

from gdi.local_federation.openbao import OpenBao
from tests.support.broker_kit import USERS, World, wait_for
from tests.support.refresh_kills import refreshes

pytest_plugins = ["tests.support.broker_fixtures"]
ACCESS = 8  # seconds; the broker, which is not told, believes 6
WAYS = {
    "narrows_by": ["resource"],
    "rotation": "none",
    "tells_lifetimes": False,
    "introspects_refresh_tokens": False,
    "exchange_answer": "keycloak",
}


@pytest.fixture(scope="module")
def world(openbao: OpenBao, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    settings = {"NARROWING": "resource", "ACCESS_TOKEN_LIFETIME": "6"}
    made = World(tmp_path_factory.mktemp("ways"), openbao, access=ACCESS, broker_env=settings, provider=WAYS)
    made.start_broker()
    yield made
    made.stop()


def test_the_provider_has_these_ways(world: World) -> None:
    signed_in = world.sign_in()
    with httpx.Client(base_url=world.issuer, trust_env=False, timeout=30) as http:
        proof = ("token-broker", world.secrets["broker"])
        form = {
            "grant_type": "urn:ietf:params:oauth:grant-type:token-exchange",
            "subject_token": signed_in.access_token,
            "subject_token_type": "urn:ietf:params:oauth:token-type:access_token",
        }
        assert http.post("/token", data={**form, "audience": "http://sda.node-a"}, auth=proof).status_code == 400
        answer = http.post("/token", data={**form, "resource": "http://sda.node-a"}, auth=proof).json()
        assert "access_token" in answer and "expires_in" not in answer
        told = http.post("/introspect", data={"token": signed_in.refresh_token}, auth=proof).json()
        assert told == {"active": False}


def test_a_grants_whole_life(world: World) -> None:
    alice = world.user()
    grant, run = world.started(alice)
    token = world.node_token("node-a", run.id, min_ttl=0).json()["token"]
    claims = jwt.decode(token, options={"verify_signature": False})
    assert claims["aud"] == ["http://sda.node-a"] and claims["sub"] == USERS["alice"]
    for _ in range(2):  # past the end of two access tokens
        time.sleep(ACCESS)
        again = world.node_token("node-b", run.id, "tes", min_ttl=0)
        assert again.status_code == 200, again.text
        assert jwt.decode(again.json()["token"], options={"verify_signature": False})["aud"] == ["http://tes.node-b"]
    assert refreshes(world) >= 2 and world.stats().get("reuse_detected", 0) == 0
    assert world.user().get_grant(grant.id).state == "active"
    world.user().revoke_grant(grant.id)
    assert world.node_token("node-a", run.id, min_ttl=0).status_code == 403
    assert wait_for("the provider has ended it", lambda: world.stats().get("revocations", 0) >= 1)
