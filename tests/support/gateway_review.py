"""A gateway whose releases wait for a person."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from gdi.kit.jose import SigningKey
from gdi.kit.secret_files import write_private
from gdi.local_federation.aai.running import RunningAai, running_aai
from gdi.oauth.client_auth.rfc7523 import public_jwks
from tests.support.gateway_world import Run, World, world_fixture  # noqa: F401

ALICE, BOB = "alice", "bob"


@pytest.fixture(scope="module", name="aai")
def aai_fixture(world: World, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningAai]:
    """The gateway with a provider for its reviewers, of whom alice is one."""
    folder = tmp_path_factory.mktemp("aai")
    key = write_private(folder / "node-key.pem", SigningKey.generate().pem())
    jwks = write_private(folder / "node-jwks.json", json.dumps(public_jwks(key.read_bytes())))
    client = {
        "id": "node-a",
        "jwks_file": str(jwks),
        "redirect_uris": [world.url + "/review/callback"],
        "grants": ["authorization_code"],
    }
    with running_aai(folder, clients=[client]) as aai:
        world.extra = {"OIDC_ISSUER": aai.issuer, "OIDC_CLIENT_ID": "node-a", "OIDC_CLIENT_KEY_FILE": str(key)}
        world.kill()
        world.start()
        yield aai
        world.extra = {}
        world.policy()
        world.kill()
        world.start()


@pytest.fixture(autouse=True)
def policy(world: World, aai: RunningAai) -> None:
    world.policy(review=True, reviewers=[sub(aai, ALICE)])


def sub(aai: RunningAai, name: str) -> str:
    return f"{name}@lifescience-ri.eu"
