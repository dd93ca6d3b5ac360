"""What system tests share: real servers that need root, Debian packages or a download, each started once and only for
the tests that ask for it.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from gdi.broker_client.client import BrokerClient
from gdi.local_federation.openbao import OpenBao
from tests.support.debian import program
from tests.support.keycloak_kit import Keycloak
from tests.support.postgres_kit import Postgres, PostgresWorld, running_postgres
from tests.support.redis_kit import Redis


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
