"""An analysis that runs in the test cluster, and what it did."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest

from tests.federation.driver import Driver, Started
from tests.kubernetes.cluster import Cluster, until
from tests.kubernetes.federated import ClusterFederation, started


@pytest.fixture(scope="module")
def federation(cluster: Cluster, broker_image: None, run_images: None) -> Iterator[ClusterFederation]:
    with started(ClusterFederation, cluster, slots=24) as made:
        yield made


@pytest.fixture(scope="module")
def driver(federation: ClusterFederation) -> Driver:
    return Driver(federation)


def begin(driver: Driver, **parameters: Any) -> Started:
    """A small run at the first node alone."""
    return driver.start({"regions": 2, **parameters}, datasets=driver.datasets[:1])


def under_way(driver: Driver, *runs: Started) -> None:
    """Waits until each run counts."""
    until(
        "the runs count",
        lambda: all(driver.running(r.run, "count") for r in runs),
        240,
        every=0.5,
        why=lambda: str([driver.state(r) for r in runs]),
    )


def assert_once(driver: Driver, started: Started) -> None:
    """Each job of the run was one TES task, which succeeded."""
    tasks = driver.all_tasks(started.run)
    assert tasks and {t["state"] for t in tasks} == {"COMPLETE"}, [(t["tags"]["gdi-job"], t["state"]) for t in tasks]
    assert set(Counter(t["tags"]["gdi-job"] for t in tasks).values()) == {1}
