"""What the parts share: a two-node cluster with the images on it, and on it the broker alone or a whole federation."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.kubernetes import images
from tests.kubernetes.cluster import Cluster
from tests.kubernetes.coordinator import Coordinator, coordinator
from tests.kubernetes.federated import ClusterFederation, started


@contextmanager
def a_cluster(*targets: str) -> Iterator[Cluster]:
    images.build(targets)
    with Cluster(nodes=2) as cluster:
        cluster.load(*(images.archive_of(target) for target in targets))
        yield cluster


@contextmanager
def a_coordinator(work: Path) -> Iterator[Coordinator]:
    with a_cluster("broker") as cluster, coordinator(cluster, work) as world:
        yield world


@contextmanager
def a_federation(**options: Any) -> Iterator[ClusterFederation]:
    """Of one node. Within it this thread is in the cluster's network."""
    with (
        a_cluster("broker", "node", "snakemake") as cluster,
        started(ClusterFederation, cluster, nodes=1, **options) as made,
    ):
        yield made
