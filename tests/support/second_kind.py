"""The kind `yes-no-counts` (tests/support/kinds), installed for a test: in this process and in a gateway's."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from gdi.releases.registry import kinds
from tests.support.gateway_world import POLICY, World

KINDS = Path(__file__).parent / "kinds"
NAME = "yes-no-counts"


@pytest.fixture
def second_kind(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Its name; it is installed in this process for as long as the test runs."""
    monkeypatch.syspath_prepend(str(KINDS))
    kinds.cache_clear()
    yield NAME
    kinds.cache_clear()


@pytest.fixture
def gateway_with_it(world: World, second_kind: str) -> Iterator[World]:
    """The gateway, started anew with the second kind, which its policy allows beside the first."""
    usual = world.python_path
    world.python_path = [*usual, KINDS]
    world.kill()
    world.start()  # the policy names the kind only when it is installed
    world.policy(releases={**POLICY["releases"], "kinds": ["allele-counts", second_kind]})
    world.describe("YN*", kinds=["allele-counts", second_kind])
    yield world
    world.python_path = usual
    world.policy()
    world.kill()
    world.start()
