"""The broker whose OAuth client has a key of its own: everything that it asks the provider for, by private_key_jwt."""

from __future__ import annotations

from collections.abc import Callable

import httpx

from gdi.contracts import broker_api as m
from gdi.kit.jose import SigningKey
from gdi.kit.secret_files import write_private
from tests.support.broker_kit import World
from tests.support.waiting import wait_for

pytest_plugins = ["tests.support.broker_fixtures"]
ACCESS, FRESH = 40, 34  # seconds; six seconds after a refresh the next is asked for, and has six for itself


def fresh_token(world: World, run: m.Run) -> httpx.Response:
    return world.node_token("node-a", run.id, min_ttl=FRESH)


def refreshes(world: World) -> int:
    return sum(world.stats()["refreshes"].values())


def test_a_grant_lives_and_ends_with_no_secret_but_the_key(make_world: Callable[..., World]) -> None:
    world = make_world(access=ACCESS, client_key=SigningKey.generate())
    world.start_broker()
    alice = world.user()  # introspection
    grant, run = world.started(alice)  # the exchange, and userinfo with what it gave
    assert world.node_token("node-a", run.id).status_code == 200  # the narrowing exchange
    before = refreshes(world)
    wait_for("a refresh", lambda: fresh_token(world, run).status_code == 200 and refreshes(world) > before)
    revocations = world.stats().get("revocations", 0)
    alice.revoke_grant(grant.id)
    wait_for("the provider heard of it", lambda: world.stats().get("revocations", 0) > revocations)
    assert world.stats()["private_key_jwt"]["token-broker"] >= 5
    secret = httpx.post(
        world.issuer + "/introspect",
        data={"token": "x"},
        auth=("token-broker", world.secrets["broker"]),
        trust_env=False,
    )
    assert secret.status_code == 401, "the provider takes the key only"


def test_a_key_that_the_provider_does_not_know_ends_no_grant(make_world: Callable[..., World]) -> None:
    """As while the key is changed at one side first: refused for now, and no grant is lost."""
    known = SigningKey.generate()
    world = make_world(access=ACCESS, client_key=known)
    world.start_broker()
    grant, run = world.started(world.user())
    assert world.node_token("node-a", run.id).status_code == 200
    key_file = world.folder / "client-key.pem"
    write_private(key_file, SigningKey.generate().pem())

    def refused() -> bool:
        """For a moment the access token may be young enough and what was narrowed from it not: that is refused, too."""
        answer = fresh_token(world, run)
        kind = answer.json()["type"].rpartition(":")[2] if answer.status_code == 502 else ""
        assert answer.status_code == 200 or kind in ("narrowing-refused", "provider-refused"), answer.text
        return kind == "provider-refused"

    wait_for("the refresh is refused", refused)
    write_private(key_file, b"half a key")
    answer = wait_for("it cannot be read", lambda: (a := fresh_token(world, run)).status_code == 503 and a)
    assert answer.json()["type"].endswith("provider-unavailable"), answer.text
    write_private(key_file, known.pem())
    assert wait_for("it serves again", lambda: fresh_token(world, run).status_code == 200)
    assert world.user().get_grant(grant.id).state == "active"
