"""A person at the broker's pages."""

from __future__ import annotations

import re
from collections.abc import Iterator

import httpx
import pytest

from gdi.local_federation.aai.client import submit_login
from tests.support.broker_kit import World


@pytest.fixture
def browser(world: World) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=world.url(), trust_env=False, timeout=60) as client:
        yield client


def sign_in(world: World, browser: httpx.Client, query: str = "", user: str = "alice") -> httpx.Response:
    away = browser.get("/connect" + query)
    assert away.status_code == 303 and "code_challenge_method=S256" in away.headers["location"]
    with httpx.Client(trust_env=False) as provider:
        back = submit_login(provider, away.headers["location"], user, world.secrets[user])
    returned = browser.get(back)
    assert returned.status_code == 303, returned.text
    return browser.get(returned.headers["location"])


def csrf(page: httpx.Response) -> str:
    found = re.search(r'name="csrf" value="([^"]+)"', page.text)
    assert found, page.text
    return found[1]
