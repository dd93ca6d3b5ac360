"""What the Kubernetes tests share: one cluster, the images, and a plain word where they cannot be had. Root, Go and Debian packages are needed."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.kubernetes import images, programs
from tests.kubernetes.cluster import PACKAGES, Cluster
from tests.system.debian import install

HERE = Path(__file__).resolve().parent


def _missing() -> str | None:
    if os.geteuid() != 0:
        return "root is needed: a node makes namespaces, mounts and control groups"
    absent = [name for name, program in {**PACKAGES, **images.PACKAGES}.items() if not Path(program).exists()]
    return install(absent) or programs.missing()


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "kubernetes_long: as kubernetes, and minutes long (make test-kubernetes-long)")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    mine = [item for item in items if item.path.is_relative_to(HERE)]
    for item in mine:
        item.add_marker(pytest.mark.kubernetes)
    if not mine or config.option.collectonly or re.search(r"not kubernetes\b", config.option.markexpr):
        return
    why = _missing()
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
def snakemake_image(cluster: Cluster) -> None:
    """Snakemake's image is on every node."""
    images.built("snakemake")
    cluster.load(images.archive_of("snakemake"))
