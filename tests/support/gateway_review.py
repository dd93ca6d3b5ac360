"""A gateway whose releases wait for a person."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from gdi.local_federation.aai.running import RunningAai, running_aai
from tests.support.gateway_world import Run, World, world_fixture  # noqa: F401

ALICE, BOB = "alice", "bob"


@pytest.fixture(scope="module", name="aai")
def aai_fixture(world: World, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningAai]:
    """The gateway with a provider for its reviewers, of whom alice is one."""
    from gdi.kit.secret_files import Secrets

    folder = tmp_path_factory.mktemp("aai")
    secret = Secrets(folder / "node").path("client-node")
    client = {
        "id": "node-a",
        "secret_file": str(secret),
        "redirect_uris": [world.url + "/review/callback"],
        "grants": ["authorization_code"],
    }
    with running_aai(folder, clients=[client]) as aai:
        world.extra = {"OIDC_ISSUER": aai.issuer, "OIDC_CLIENT_ID": "node-a", "OIDC_CLIENT_SECRET_FILE": str(secret)}
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
