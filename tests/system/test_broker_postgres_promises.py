"""The broker's promises about starts, workloads, events and jobs, unchanged, where two replicas share PostgreSQL and
each call may land on either.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from gdi.broker_client.client import BrokerClient
from gdi.local_federation.openbao import OpenBao
from tests.support.postgres_kit import Postgres, PostgresWorld
from tests.support.suites import broker_jobs as jobs
from tests.support.suites import broker_starts as starts
from tests.support.suites import broker_workloads as workloads
from tests.support.suites.broker_jobs import *  # noqa: F403
from tests.support.suites.broker_starts import *  # noqa: F403
from tests.support.suites.broker_workloads import *  # noqa: F403

pytestmark = [pytest.mark.system, pytest.mark.xdist_group("system-postgres")]
pytest_plugins = ["tests.support.broker_fixtures"]


@pytest.fixture(scope="session")
def world(postgres: Postgres, openbao: OpenBao, tmp_path_factory: pytest.TempPathFactory) -> Iterator[PostgresWorld]:
    made = PostgresWorld(tmp_path_factory.mktemp("balanced-world"), openbao, postgres, balanced=True)
    try:
        for replica in (0, 1):
            made.start_broker(replica)
        yield made
    finally:
        made.stop()


@pytest.fixture(scope="session")
def alice(world: PostgresWorld) -> BrokerClient:
    return world.user("alice")


@pytest.fixture(scope="session")
def bob(world: PostgresWorld) -> BrokerClient:
    return world.user("bob")


# Narrowed tokens are cached by each replica for itself: that the next call gives the very same one is a promise of one
# replica only.
del test_a_node_token_is_narrowed_to_the_nodes_service_and_cached  # noqa: F821


def test_every_promise_of_one_replica_is_kept_here_too(world: PostgresWorld) -> None:
    """Runs last: both replicas were asked, so the tests above were what their names say."""
    names = {n for module in (jobs, starts, workloads) for n in vars(module) if n.startswith("test_")}
    assert len(names & set(globals())) >= len(names) - 1 > 15
    assert all(b.popen is not None and b.popen.poll() is None for b in world.brokers)
    counts = [
        sum(float(line.rpartition(" ")[2]) for line in metrics(world, r).splitlines() if "_count{" in line)
        for r in (0, 1)
    ]
    assert min(counts) > 0.2 * max(counts), counts


def metrics(world: PostgresWorld, replica: int) -> str:
    return world.watch("/metrics", replica).raise_for_status().text
