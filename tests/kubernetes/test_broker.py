"""The broker as charts/gdi installs it: two replicas, updated under load with no failed request; reached by whom it
should know, and by nobody else.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from gdi.broker_client.client import BrokerClient
from gdi.kit.problem import ProblemError
from tests.kubernetes.cluster import Cluster, until
from tests.kubernetes.coordinator import NAMESPACE, OUTSIDE, Coordinator, coordinator, pods_of
from tests.kubernetes.launcher_kit import RUNS
from tests.kubernetes.load import RATE, Load, updated
from tests.kubernetes.pods import pod, reaches

from tests.support.broker_kit import refused  # isort: skip


@pytest.fixture(scope="module")
def world(cluster: Cluster, broker_image: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Coordinator]:
    with coordinator(cluster, tmp_path_factory.mktemp("coordinator")) as made:
        yield made


def test_the_chart_installs_two_ready_replicas_that_log_in_at_vault_by_their_own_identity(world: Coordinator) -> None:
    print(f"\nhelm install, images present: {world.install_seconds:.1f} s")
    assert len(pods_of(world.cluster)) == 2
    assert httpx.get(world.public_url + "/readyz", trust_env=False).json() == {"status": "ok"}
    machines = world.cluster.kubectl(
        "get",
        "pods",
        "-n",
        NAMESPACE,
        "-l",
        "app.kubernetes.io/name=gdi-broker",
        "-o",
        "jsonpath={.items[*].spec.nodeName}",
    )
    assert len(set(machines.split())) == 2, "one on each machine"
    until(
        "one may be disrupted",
        lambda: (
            world.cluster.get("poddisruptionbudget", "gdi-broker", NAMESPACE)["status"].get("disruptionsAllowed") == 1
        ),
        120,
    )


def test_a_rolling_update_under_token_requests_fails_none(world: Coordinator) -> None:
    with world.user("alice") as alice:
        _, run = world.started(alice)
    before = pods_of(world.cluster)
    load, took = updated(world, run.id, world.audience(run))
    total, failed = sum(load.seen.values()), sum(load.failed.values())
    print(
        f"\nrolling update: {took:.0f} s, {total} token requests, {RATE}/s at most, failed: {failed}, slowest"
        f" {load.slowest:.2f} s"
    )
    assert load.failed == {}, load.words
    assert not set(before) & set(pods_of(world.cluster))


def test_a_killed_replica_costs_at_most_the_requests_that_it_held(world: Coordinator) -> None:
    with world.user("alice") as alice:
        _, run = world.started(alice)
    victim = next(iter(pods_of(world.cluster)))
    with Load(world, run.id, world.audience(run)) as load:
        until("the load runs", lambda: load.seen["200"] > RATE, 120)
        world.cluster.kubectl("delete", "pod", "-n", NAMESPACE, victim, "--grace-period=0", "--force")
        until(
            "a new replica is ready",
            lambda: victim not in pods_of(world.cluster) and len(pods_of(world.cluster)) == 2,
            60,
        )
        world.cluster.rollout("deployment/gdi-broker", NAMESPACE, 90)
    print(
        f"\na killed replica: {sum(load.failed.values())} of {sum(load.seen.values())} requests failed: {load.failed}"
    )
    assert sum(load.failed.values()) < RATE * 6, "what the balancer still sent there until it knew"


def _identity(
    world: Coordinator, name: str, account: str = "snakemake", namespace: str = RUNS
) -> tuple[BrokerClient, str]:
    """A client with the real identity of a pod that there is, bound to its name and uid."""
    made = pod(name, "import time; time.sleep(600)", namespace, serviceAccountName=account)
    made["metadata"]["labels"]["app.kubernetes.io/name"] = "gdi-snakemake"
    world.cluster.apply([made])
    uid = world.cluster.get("pod", name, namespace)["metadata"]["uid"]
    bound = ("--bound-object-kind=Pod", f"--bound-object-name={name}", f"--bound-object-uid={uid}")
    token = world.cluster.kubectl(
        "create", "token", account, "-n", namespace, "--audience=token-broker", *bound
    ).strip()
    return BrokerClient(world.public_url, lambda: token), uid


def test_a_pod_with_another_runs_or_no_registered_identity_gets_403(world: Coordinator) -> None:
    from gdi.contracts import broker_api as m

    with world.user("alice") as alice:
        _, run = world.started(alice)
        _, other = world.started(alice)
    request = m.TokenRequest(audience=world.audience(run), min_ttl=30)
    mine, uid = _identity(world, f"{run.id}-node-a-1-1")
    stranger, _ = _identity(world, "stranger")
    with mine, stranger:
        assert refused(stranger.token, run.id, request).problem.status == 403
        assert refused(mine.token, run.id, request).problem.status == 403, "not registered yet"
        world.workload(run, f"{run.id}-node-a-1-1", uid=uid)
        assert mine.token(run.id, request).token
        assert refused(mine.token, other.id, request).problem.status == 403
        assert refused(stranger.token, run.id, request).problem.status == 403
        world.workload(run, f"{run.id}-node-a-1-2", uid=None)
        assert refused(mine.token, run.id, request).slug == "workload-fenced"
    wrong, _ = _identity(world, "default-account", account="default")
    with wrong, pytest.raises(ProblemError) as unknown:
        wrong.token(run.id, request)
    assert unknown.value.problem.status == 401


def test_a_snakemake_pod_reaches_the_broker_and_nothing_else_and_strangers_do_not(world: Coordinator) -> None:
    cluster = world.cluster
    inside = pod("walled", "import time; time.sleep(600)", RUNS)
    inside["metadata"]["labels"]["app.kubernetes.io/name"] = "gdi-snakemake"
    cluster.apply(
        [
            inside,
            pod("other", "import time; time.sleep(600)", RUNS),
            pod("outsider", "import time; time.sleep(600)", OUTSIDE),
        ]
    )
    for name, namespace in (("walled", RUNS), ("other", RUNS), ("outsider", OUTSIDE)):
        cluster.kubectl("wait", "--for=condition=Ready", f"pod/{name}", "-n", namespace, "--timeout=60s", timeout=70)
    broker: tuple[Any, ...] = ("gdi-broker.gdi.svc", 8080)
    until("a Snakemake pod reaches the broker", lambda: reaches(cluster, "walled", RUNS, *broker))
    for host, port in (
        (f"vault.{OUTSIDE}.svc", 8200),
        (f"postgres.{OUTSIDE}.svc", 5432),
        ("kubernetes.default.svc", 443),
    ):
        assert not reaches(cluster, "walled", RUNS, host, port), host
    assert not reaches(cluster, "other", RUNS, *broker), "not one of Airflow's pods"
    assert not reaches(cluster, "outsider", OUTSIDE, *broker)
