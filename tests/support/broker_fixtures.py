"""Fixtures of the broker's tests, loaded by `pytest_plugins`: one OpenBao and one shared world for all of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from gdi.broker_client.client import BrokerClient
from gdi.local_federation.openbao import OpenBao, running
from tests.support.broker_kit import PORTS, World


@pytest.fixture(scope="session")
def openbao(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OpenBao]:
    """One real OpenBao for all of the broker's tests."""
    server = OpenBao(tmp_path_factory.mktemp("openbao"), PORTS.take(), PORTS.take())
    with running(server):
        yield server


@pytest.fixture
def make_world(openbao: OpenBao, tmp_path: Path) -> Iterator[Callable[..., World]]:
    """Worlds of a test's own, with the lifetimes it needs."""
    made: list[World] = []

    def make(**options: Any) -> World:
        made.append(World(tmp_path / f"world{len(made)}", openbao, **options))
        return made[-1]

    yield make
    for world in made:
        world.stop()


@pytest.fixture(scope="session")
def world(openbao: OpenBao, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """A world with long-lived tokens that many tests share; each makes its own grants and runs."""
    shared = World(tmp_path_factory.mktemp("world"), openbao)
    shared.start_broker()
    yield shared
    shared.stop()


@pytest.fixture(scope="session")
def alice(world: World) -> BrokerClient:
    return world.user("alice")


@pytest.fixture(scope="session")
def bob(world: World) -> BrokerClient:
    return world.user("bob")
