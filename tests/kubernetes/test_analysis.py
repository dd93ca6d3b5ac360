"""The allele-frequency analysis of real genomes with broker, gateways and every Snakemake in pods of the Dockerfile's
images, and what a cluster does to runs: the answer is the pooled counts, a run goes on or fails with the true reason in
its task, and nothing runs twice.
"""

from __future__ import annotations

import json
import time

import pytest

from gdi.local_federation import cohort
from gdi.local_federation.demo import compare, read_answer, run
from gdi.local_federation.federation import COHORT
from tests.federation.driver import Driver, Started
from tests.kubernetes import images
from tests.kubernetes.analysis import assert_once, begin, driver, federation, under_way  # noqa: F401
from tests.kubernetes.cluster import Cluster, until
from tests.kubernetes.coordinator import pods_of
from tests.kubernetes.federated import ClusterFederation
from tests.kubernetes.launcher_kit import RUNS
from tests.kubernetes.load import Load

AWAY = 60  # seconds without the API server


def failure_of(driver: Driver, started: Started) -> str:
    """What the task `analyse` of a run that failed says."""
    assert driver.finish(started) == "failed"
    return driver.task_log(started, "analyse", map_index=0)


@pytest.mark.timeout(1500)
def test_pods_of_the_real_images_analyse_real_genomes_and_the_answer_equals_the_pooled_counts(
    federation: ClusterFederation,
) -> None:
    pooled = cohort.pooled(COHORT, federation.layout.folder("pooled"))
    _, broker_run = run(federation, timeout=700)
    answer = compare(read_answer(federation.layout.results / broker_run / "answer.tsv"), pooled, federation.layout)
    assert not answer.wrong and answer.exact >= 100
    pods = federation.pods_of(broker_run)
    assert {p["metadata"]["labels"]["gdi-node"] for p in pods} == set(federation.layout.nodes)
    for pod in pods:
        container = pod["spec"]["containers"][0]
        assert pod["status"]["phase"] == "Succeeded" and container["image"] == images.name_of("snakemake")
        assert container["command"] == ["python3", "-P", "-m", "snakemake_tes_auth.pod"], "the real entry point"
    assert len(pods_of(federation.cluster)) == 2, "the broker that admitted it is the chart's"


def test_an_evicted_and_a_drained_pod_are_replaced_and_nothing_runs_twice(
    federation: ClusterFederation, driver: Driver, cluster: Cluster
) -> None:
    evicted, drained = begin(driver, slow_seconds=20), begin(driver, slow_seconds=20)
    under_way(driver, evicted, drained)
    name = federation.pods_of(evicted.run)[0]["metadata"]["name"]
    eviction = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": name, "namespace": RUNS}}
    cluster.kubectl(
        "create", "--raw", f"/api/v1/namespaces/{RUNS}/pods/{name}/eviction", "-f", "-", stdin=json.dumps(eviction)
    )
    machine = federation.pods_of(drained.run)[0]["spec"]["nodeName"]
    cluster.kubectl(
        "drain",
        machine,
        "--force",
        "--ignore-daemonsets",
        "--delete-emptydir-data",
        f"--pod-selector=gdi-run={drained.run}",
        "--timeout=60s",
        timeout=70,
    )
    try:
        for one in (evicted, drained):
            driver.succeed(one)
            assert [p["metadata"]["name"].rsplit("-", 1)[1] for p in federation.pods_of(one.run)] == ["2"]
            assert "starting its replacement (1 of 3)" in driver.task_log(one, "analyse", map_index=0)
            assert_once(driver, one)
        assert federation.pods_of(drained.run)[0]["spec"]["nodeName"] != machine
    finally:
        cluster.kubectl("uncordon", machine)


def test_a_pod_that_needs_more_memory_than_it_gets_fails_its_task_with_that_reason(driver: Driver) -> None:
    said = failure_of(driver, begin(driver, pod={"memory": "100Mi"}))
    assert "was killed for using more memory than its limit of 100Mi 4 times; it is not started again" in said


def test_an_image_that_is_not_there_fails_the_task_with_that_reason(
    federation: ClusterFederation, driver: Driver
) -> None:
    with federation.given(image="localhost/gdi-snakemake:absent"):
        assert "its Snakemake pod cannot start: ErrImageNeverPull" in failure_of(driver, begin(driver))


def test_a_full_quota_is_told_by_the_task_and_waited_out(
    federation: ClusterFederation, driver: Driver, cluster: Cluster
) -> None:
    cluster.apply(
        [
            {
                "apiVersion": "v1",
                "kind": "ResourceQuota",
                "metadata": {"name": "full", "namespace": RUNS},
                "spec": {"hard": {"pods": "0"}},
            }
        ]
    )
    try:
        until("the quota is in force", lambda: "hard" in cluster.get("resourcequota", "full", RUNS).get("status", {}))
        waits = begin(driver)
        until(
            "the task tells of it",
            lambda: "exceeded quota: full" in driver.task_log(waits, "analyse", map_index=0),
            120,
            every=1,
        )
    finally:
        cluster.kubectl("delete", "resourcequota", "full", "-n", RUNS)
    driver.succeed(waits)
    assert_once(driver, waits)


def test_while_the_api_server_is_away_for_a_minute_runs_go_on_and_new_ones_wait(
    federation: ClusterFederation, driver: Driver, cluster: Cluster
) -> None:
    going = begin(driver, slow_seconds=20)
    under_way(driver, going)
    with cluster.without("kube-apiserver"):
        back = time.monotonic() + AWAY
        waits = begin(driver)
        until(
            "its jobs end meanwhile", lambda: all(t["state"] == "COMPLETE" for t in driver.all_tasks(going.run)), AWAY
        )
        until("a minute has passed", lambda: time.monotonic() > back, AWAY + 5)
    for one in (going, waits):
        driver.succeed(one)
        assert_once(driver, one)
        assert [p["metadata"]["name"].rsplit("-", 1)[1] for p in federation.pods_of(one.run)] == ["1"]


@pytest.mark.timeout(1200)
def test_broker_and_gateway_are_upgraded_during_ten_runs_and_no_token_and_no_download_fails(
    federation: ClusterFederation, driver: Driver, cluster: Cluster
) -> None:
    gateway = federation.gateways[federation.layout.nodes[0]]
    before, heard = set(pods_of(cluster).values()), len(gateway.audit())
    runs = [begin(driver, slow_seconds=60) for _ in range(10)]
    until("half of them have jobs", lambda: sum(bool(driver.all_tasks(r.run)) for r in runs) >= 5, 300, every=1)
    with Load(federation, runs[-1].run, federation.layout.gateway_url(gateway.name), rate=10) as load:
        until("tokens are asked for", lambda: load.seen["200"] > 20, 60, why=lambda: str(load.seen))
        begun = time.time()
        gateway.upgrade("--set", "gateway.shutdownSeconds=25")
        federation.centre.upgrade("--set", f"broker.podAnnotations.update=at-{time.time_ns()}")
        ended = time.time()
    at_work = [r for r in runs if driver.state(r) == "running"]
    for one in runs:
        driver.succeed(one, timeout=600)
        assert_once(driver, one)
    audit = gateway.audit()[heard:]
    meanwhile = [e for e in audit if e["action"] == "read" and begun < e["time"] < ended]
    print(
        f"\nboth upgrades in {ended - begun:.0f} s, {len(at_work)} of {len(runs)} runs at work after them; meanwhile"
        f" {len(meanwhile)} downloads and {sum(load.seen.values())} token requests, the slowest {load.slowest:.2f} s;"
        f" failed: {load.failed}"
    )
    assert at_work and meanwhile, "the upgrades were over before the runs"
    assert not before & set(pods_of(cluster).values())
    assert load.failed == {}
    assert not [e for e in audit if not e["allowed"]]
    assert not [e for r in runs for e in driver.broker_audit(r.run) if not e["allowed"]]
