"""What system tests share: real servers that need root, Debian packages or a download, each started once and only for
the tests that ask for it.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from gdi.broker_client.client import BrokerClient
from gdi.local_federation.openbao import OpenBao

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "integration")]  # the kits of the integration tests serve here too

from debian import program  # noqa: E402
from keycloak_kit import Keycloak  # noqa: E402
from postgres_kit import Postgres, PostgresWorld, running_postgres  # noqa: E402
from redis_kit import Redis  # noqa: E402


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """One PostgreSQL for all tests; each world has a database of its own in it."""
    with running_postgres() as server:
        yield server


@pytest.fixture(scope="session")
def redis_server() -> Iterator[Redis]:
    server = Redis(program("redis-server"))
    try:
        server.start()
        yield server
    finally:
        server.stop()


@pytest.fixture(scope="session")
def replicas(postgres: Postgres, openbao: OpenBao, tmp_path_factory: pytest.TempPathFactory) -> Iterator[PostgresWorld]:
    """Both replicas were started in the same moment on an empty database and an empty Vault path."""
    made = PostgresWorld(
        tmp_path_factory.mktemp("postgres-world"), openbao, postgres, broker_env={"LEASE_SECONDS": "5"}
    )
    with ThreadPoolExecutor(2) as pool:  # kept open: the replicas die with the thread that started them
        try:
            list(pool.map(made.start_broker, (0, 1)))
            yield made
        finally:
            made.stop()


@pytest.fixture
def users(replicas: PostgresWorld) -> tuple[BrokerClient, BrokerClient]:
    """Alice, at either replica."""
    return replicas.user(replica=0), replicas.user(replica=1)


@pytest.fixture(scope="session")
def keycloak() -> Iterator[Keycloak]:
    """One Keycloak for all tests; each world has a realm of its own in it."""
    server = Keycloak()
    try:
        yield server
    finally:
        server.stop()
