"""What the Kubernetes tests share: one cluster, the images, and a plain word where they cannot be had. Root, Go and
Debian packages are needed.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.kubernetes import images, prepare
from tests.kubernetes.cluster import Cluster

HERE = Path(__file__).resolve().parent


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "kubernetes_long: as kubernetes, and minutes long (make test-kubernetes-long)")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    mine = [item for item in items if item.path.is_relative_to(HERE)]
    for item in mine:
        item.add_marker(pytest.mark.kubernetes)
    if not mine or config.option.collectonly or re.search(r"not kubernetes\b", config.option.markexpr):
        return
    why = prepare.missing()
    if why is None:
        return
    if os.environ.get("CI") == "true":  # there tests that never run would be worse than red ones
        pytest.exit(f"The Kubernetes tests cannot run: {why}", returncode=1)
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    if reporter is not None:
        reporter.write_line(f"\nNO KUBERNETES TEST RUNS HERE: {why}\n", red=True, bold=True)
    for item in mine:
        item.add_marker(pytest.mark.skip(reason=why))


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """Two nodes, so that there is somewhere to go when one is drained."""
    with Cluster(nodes=2) as made:
        yield made


@pytest.fixture(scope="session")
def broker_image(cluster: Cluster) -> None:
    """The broker's image is on every node: Python for small pods of a test's own."""
    images.built("broker")
    cluster.load(images.archive_of("broker"))


@pytest.fixture(scope="session")
def run_images(cluster: Cluster) -> None:
    """Snakemake's and the gateway's image are on every node."""
    for target in ("snakemake", "node"):
        images.built(target)
        cluster.load(images.archive_of(target))
