"""The allele-frequency analysis of real genomes with the broker and every Snakemake in pods of the Dockerfile's images: the answer is the pooled counts."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from local_federation import cohort
from local_federation.demo import compare, read_answer, run
from local_federation.federation import COHORT
from tests.kubernetes import images
from tests.kubernetes.cluster import Cluster
from tests.kubernetes.coordinator import pods_of
from tests.kubernetes.federated import ClusterFederation, started


@pytest.fixture(scope="module")
def federation(cluster: Cluster, broker_image: None, snakemake_image: None) -> Iterator[ClusterFederation]:
    with started(ClusterFederation, cluster) as made:
        yield made


@pytest.mark.timeout(1500)
def test_pods_of_the_real_images_analyse_real_genomes_and_the_answer_equals_the_pooled_counts(federation: ClusterFederation) -> None:
    pooled = cohort.pooled(COHORT, federation.layout.folder("pooled"))
    _, broker_run = run(federation, timeout=700)
    answer = compare(read_answer(federation.layout.results / broker_run / "answer.tsv"), pooled)
    assert not answer.wrong and answer.released >= 100
    pods = federation.pods_of(broker_run)
    assert {p["metadata"]["labels"]["gdi-node"] for p in pods} == set(federation.layout.nodes)
    for pod in pods:
        container = pod["spec"]["containers"][0]
        assert pod["status"]["phase"] == "Succeeded" and container["image"] == images.name_of("snakemake")
        assert container["command"] == ["python3", "-P", "-m", "snakemake_tes_auth.pod"], "the real entry point"
    assert len(pods_of(federation.cluster)) == 2, "the broker that admitted it is the chart's"
