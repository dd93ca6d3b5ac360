"""What the parts share: a two-node cluster with the images on it, and on it the broker alone or a whole federation."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.kubernetes import images
from tests.kubernetes.cluster import Cluster
from tests.kubernetes.coordinator import Coordinator, coordinator
from tests.kubernetes.federated import ClusterFederation

from postgres_kit import Postgres  # isort: skip
from broker_kit import PORTS  # isort: skip
from local_federation.openbao import OpenBao, running
from tests.system.debian import program


@contextmanager
def a_cluster(*targets: str) -> Iterator[Cluster]:
    images.build(targets)
    with Cluster(nodes=2) as cluster:
        cluster.load(*(images.archive_of(target) for target in targets))
        yield cluster


@contextmanager
def a_postgres() -> Iterator[Postgres]:
    postgres = Postgres(program("postgresql").parent)
    try:
        postgres.start()
        yield postgres
    finally:
        postgres.stop()


@contextmanager
def a_coordinator(work: Path) -> Iterator[Coordinator]:
    bao = OpenBao(work / "openbao", PORTS.take(), PORTS.take())
    bao.folder.mkdir()
    with a_cluster("broker") as cluster, a_postgres() as postgres, running(bao), coordinator(cluster, work, bao, postgres) as world:
        yield world


@contextmanager
def a_federation(work: Path, **options: Any) -> Iterator[ClusterFederation]:
    """Of one node. Within it this thread is in the cluster's network."""
    with (
        a_cluster("broker", "snakemake") as cluster,
        cluster.network(),
        a_postgres() as postgres,
        ClusterFederation(work / "federation", cluster, postgres, nodes=1, **options) as made,
    ):
        made.start()
        yield made
