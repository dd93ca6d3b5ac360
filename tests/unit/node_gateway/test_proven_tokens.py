"""A run token is proven once; what it may do is asked each time, and a proof ends with the token and with its key."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any
from unittest import mock

import httpx
import pytest
from starlette.requests import Request

from gdi.contracts.run_token import TYPE
from gdi.kit.jose import RemoteKeys, SigningKey, verify
from gdi.kit.problem import ProblemError
from node_gateway.audit import Audit
from node_gateway.auth import Authenticator, Fences
from node_gateway.db.store import GatewayDatabase
from tests.support.wire import answers_of
from tests.support.wires import KEY_SETS

ISSUER, NODE, GATEWAY, RUN = "https://broker", "node-a", "https://gateway", "r-" + "ab" * 10
CLAIMS = {
    "sub": "alice",
    "run": RUN,
    "attempt": 1,
    "node": NODE,
    "workflow": "count",
    "digest": "sha256:" + "0" * 64,
    "datasets": [],
    "scope": "tasks workspace",
    "generation": 1,
    "wl": "pod-a",
}


class Broker:
    """Its word that a run is open."""

    open = True

    async def open_run(self, run: str, attempt: int) -> None:
        if not self.open:
            raise ProblemError(403, "run-closed", "closed")


class World:
    def __init__(self, database: GatewayDatabase) -> None:
        self.key, self.shown = SigningKey.generate(), [SigningKey.generate()]
        self.shown = [self.key]
        http = httpx.AsyncClient(transport=answers_of(KEY_SETS, self._jwks))
        self.keys = RemoteKeys(ISSUER + "/jwks", http, fresh_for=60)
        self.broker, self.fences = Broker(), Fences(database)
        self.door = Authenticator(
            self.keys,
            self.broker,  # type: ignore[arg-type]
            self.fences,
            Audit(database),
            node=NODE,
            audience=GATEWAY,
            issuer=ISSUER,
        )

    def _jwks(self, _: httpx.Request) -> httpx.Response:
        return httpx.Response(200, json={"keys": [key.jwk() for key in self.shown]})

    def token(self, lifetime: float = 300, **more: Any) -> str:
        return self.key.sign({**CLAIMS, "iss": ISSUER, "aud": GATEWAY, **more}, lifetime=lifetime, typ=TYPE)

    async def comes(self, token: str) -> str:
        """The user, or the refusal's slug."""
        scope = {"type": "http", "method": "POST", "path": "/x", "query_string": b""}
        headers = [(b"authorization", f"Bearer {token}".encode())]
        try:
            return (await self.door.caller(Request({**scope, "headers": headers}), "tasks")).user
        except ProblemError as error:
            return error.slug


@pytest.fixture
def world(database: GatewayDatabase) -> World:
    return World(database)


@pytest.fixture
def proofs() -> Iterator[mock.Mock]:
    with mock.patch("node_gateway.auth.verify", side_effect=verify) as counted:
        yield counted


async def test_a_token_is_proven_once(world: World, proofs: mock.Mock) -> None:
    one, other = world.token(), world.token()
    for _ in range(5):
        assert await world.comes(one) == "alice"
    assert proofs.call_count == 1
    assert await world.comes(other) == "alice" and proofs.call_count == 2
    assert await world.comes(one[:-2] + ("AA" if one[-2:] != "AA" else "BB")) == "invalid-token"


async def test_a_proof_ends_with_the_token(world: World, proofs: mock.Mock) -> None:
    token = world.token(lifetime=300)
    assert await world.comes(token) == await world.comes(token) == "alice" and proofs.call_count == 1
    later = time.time() + 301
    with mock.patch("node_gateway.auth.time.time", return_value=later):
        await world.comes(token)
    assert proofs.call_count == 2, "whether it still holds is for the whole check to say"


async def test_a_key_that_its_issuer_withdrew_proves_nothing_more(world: World) -> None:
    token = world.token()
    assert await world.comes(token) == "alice"
    world.shown = [SigningKey.generate()]
    world.keys.fresh_for = 0
    assert await world.comes(token) == "invalid-token"


async def test_what_a_proven_token_may_do_is_asked_each_time(world: World) -> None:
    token = world.token()
    assert await world.comes(token) == "alice"
    world.broker.open = False
    assert await world.comes(token) == "run-closed"
    world.broker.open = True
    assert await world.comes(token) == "alice"
    await world.fences.raise_to(RUN, attempt=2)
    assert await world.comes(token) == "stale-attempt"
    assert await world.comes(world.token(attempt=2)) == "alice"
    await world.fences.raise_to(RUN, closed=2)
    assert await world.comes(world.token(attempt=2)) == "run-closed"


async def test_what_was_refused_is_not_remembered_as_good(world: World) -> None:
    for token in (world.token(typ="x", aud="https://else"), world.token(attempt=0), world.token(lifetime=1, exp=1)):
        for _ in range(2):
            assert await world.comes(token) == "invalid-token"
    assert await world.comes(world.token(node="node-b")) == "wrong-node"
