"""What system tests share: real servers that need root, Debian packages or a download, each started once and only for the tests that ask for it."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "integration")]  # the kits of the integration tests serve here too

from debian import program  # noqa: E402
from keycloak_kit import Keycloak  # noqa: E402
from postgres_kit import Postgres  # noqa: E402


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """One PostgreSQL for all tests; each world has a database of its own in it."""
    server = Postgres(program("postgresql").parent)
    try:
        server.start()
        yield server
    finally:
        server.stop()


@pytest.fixture(scope="session")
def keycloak() -> Iterator[Keycloak]:
    """One Keycloak for all tests; each world has a realm of its own in it."""
    server = Keycloak()
    try:
        yield server
    finally:
        server.stop()
