"""A reviewer at the gateway's pages."""

from __future__ import annotations

import re
from collections.abc import Iterator

import httpx
import pytest

from gdi.local_federation.aai.client import submit_login
from gdi.local_federation.aai.running import RunningAai
from tests.support.gateway_review import ALICE, BOB, aai_fixture, policy, sub  # noqa: F401
from tests.support.gateway_world import Run, World, world_fixture  # noqa: F401


@pytest.fixture
def browser(world: World) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=world.url, trust_env=False, timeout=60) as client:
        yield client


def sign_in(aai: RunningAai, browser: httpx.Client, user: str = ALICE, back: str = "/review") -> httpx.Response:
    away = browser.get("/review/sign-in", params={"back": back})
    assert away.status_code == 303 and "code_challenge_method=S256" in away.headers["location"]
    with httpx.Client(trust_env=False) as provider:
        returned = browser.get(submit_login(provider, away.headers["location"], user, aai.secrets.read(f"user-{user}")))
    return browser.get(returned.headers["location"]) if returned.status_code == 303 else returned


def field(page: httpx.Response, name: str) -> str:
    found = re.search(rf'name="{name}" value="([^"]+)"', page.text)
    assert found, page.text
    return found[1]
