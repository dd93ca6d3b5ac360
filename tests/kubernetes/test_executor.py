"""A DAG of ours under Airflow's KubernetesExecutor: every step is a worker pod of our own image, every Snakemake a pod
of its own, the answer is the same.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from gdi.local_federation import cohort
from gdi.local_federation.demo import compare, read_answer, run
from gdi.local_federation.federation import COHORT
from tests.kubernetes.cluster import Cluster
from tests.kubernetes.executor import ExecutorFederation, loaded
from tests.kubernetes.federated import started

pytestmark = [pytest.mark.kubernetes_long, pytest.mark.timeout(1800)]


@pytest.fixture(scope="module")
def federation(cluster: Cluster, broker_image: None, run_images: None) -> Iterator[ExecutorFederation]:
    loaded(cluster)
    with started(ExecutorFederation, cluster) as made:
        yield made


def test_each_step_is_a_worker_pod_and_the_answer_equals_the_pooled_counts(federation: ExecutorFederation) -> None:
    pooled = cohort.pooled(COHORT, federation.layout.folder("pooled"))
    dag_run, broker_run = run(federation, timeout=900)
    answer = compare(read_answer(federation.layout.results / broker_run / "answer.tsv"), pooled, federation.layout)
    assert not answer.wrong and answer.exact >= 100
    workers = federation.workers(dag_run)
    assert {"admit", "analyse", "release", "gather", "close"} <= set(workers)
    assert {p["metadata"]["labels"]["gdi-node"] for p in federation.pods_of(broker_run)} == set(federation.layout.nodes)
