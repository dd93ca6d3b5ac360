"""A broker killed at the one instant at which a refresh token can be lost."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from typing import Any

import httpx

from tests.support.broker_kit import USERS, World, wait_for


def refreshes(world: World) -> int:
    """How many refresh tokens of alice's the provider has redeemed."""
    return int(world.stats()["refreshes"].get(USERS["alice"], 0))


def killed_between_answer_and_write(world: World, ask: Callable[[], object]) -> None:
    """SIGKILL of the first broker after the provider redeemed the refresh token and before the broker had its answer.
    `ask` needs a refresh.
    """
    before = refreshes(world)
    world.faults({"path": "/oidc/token", "when": "after", "delay": 30})
    asking = threading.Thread(target=quietly, args=(ask,))
    asking.start()
    wait_for("the token is redeemed", lambda: refreshes(world) == before + 1)
    world.brokers[0].kill()
    asking.join(120)
    world.faults()


def end_access_token(world: World, grant: str) -> None:
    """As time would: the grant's last access token serves no more."""
    path = f"/v1/gdi/data/grants/{grant}"
    with world.bao.as_operator() as operator:
        record: dict[str, Any] = operator.get(path).json()["data"]
        data, version = {**record["data"], "access_expires_at": 0}, record["metadata"]["version"]
        operator.post(path, json={"data": data, "options": {"cas": version}}).raise_for_status()


def quietly(call: Callable[[], object]) -> None:
    with contextlib.suppress(httpx.HTTPError):
        call()
