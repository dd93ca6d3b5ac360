"""A node that starts Snakemake itself, by charts/gdi-node as it is by default: orders of the centre run as pods of the
node's own namespace, the answer is the pooled counts; its agent is killed, a run is stopped, a pod is evicted.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from gdi.contracts.tes import LIVE
from gdi.local_federation import cohort
from gdi.local_federation.demo import compare, read_answer, run
from gdi.local_federation.federation import COHORT
from tests.federation.driver import Driver
from tests.kubernetes import images
from tests.kubernetes.analysis import assert_once, begin, under_way
from tests.kubernetes.cluster import Cluster, until
from tests.kubernetes.federated import started
from tests.kubernetes.own_node import AgentGateway, OwnFederation

pytestmark = pytest.mark.timeout(1200)


@pytest.fixture(scope="module")
def federation(cluster: Cluster, broker_image: None, run_images: None) -> Iterator[OwnFederation]:
    with started(OwnFederation, cluster, slots=24) as made:
        yield made


@pytest.fixture(scope="module")
def driver(federation: OwnFederation) -> Driver:
    return Driver(federation)


@pytest.fixture(scope="module")
def node(federation: OwnFederation) -> AgentGateway:
    """The first."""
    found = federation.gateways[federation.layout.nodes[0]]
    assert isinstance(found, AgentGateway)
    return found


def generations(pods: list[dict[str, Any]]) -> list[str]:
    return [p["metadata"]["name"].rsplit("-", 1)[1] for p in pods]


def test_orders_run_as_pods_of_each_node_and_the_answer_equals_the_pooled_counts(federation: OwnFederation) -> None:
    pooled = cohort.pooled(COHORT, federation.layout.folder("pooled"))
    _, broker_run = run(federation, timeout=900)
    answer = compare(read_answer(federation.layout.results / broker_run / "answer.tsv"), pooled, federation.layout)
    assert not answer.wrong and answer.exact >= 100
    assert not federation.pods_of(broker_run), "the centre started none"
    for gateway in federation.gateways.values():
        assert isinstance(gateway, AgentGateway)
        (pod,) = gateway.pods(broker_run)
        assert pod["status"]["phase"] == "Succeeded" and pod["metadata"]["labels"]["gdi-node"] == gateway.name
        assert pod["spec"]["containers"][0]["image"] == images.name_of("snakemake")


def test_only_the_agent_can_make_pods_and_only_the_nodes_own_pods_reach_its_gateway(
    federation: OwnFederation, node: AgentGateway
) -> None:
    look = ("python3", "-c", "import os; print(os.path.exists('/var/run/secrets/kubernetes.io/serviceaccount/token'))")
    assert [node.in_gateway(c, *look).strip() for c in ("gateway", "agent")] == ["False", "True"]
    account = f"--as=system:serviceaccount:{node.namespace}:{node.name}-gateway"

    def may(verb: str, what: str, namespace: str) -> str:
        return node.cluster.kubectl("auth", "can-i", verb, what, "-n", namespace, account, check=False).strip()

    assert may("create", "pods", node.runs) == "yes" and may("get", "secrets", node.runs) == "no"
    assert {may("create", "pods", n) for n in (node.namespace, "gdi-runs", "gdi")} == {"no"}
    services = json.loads(node.cluster.kubectl("get", "services", "-n", node.namespace, "-o", "json"))["items"]
    assert {s["spec"]["type"] for s in services} == {"ClusterIP"}
    reach = (
        "import socket, sys\nfor name in sys.argv[1:]:\n    try: socket.create_connection((name, 8080), timeout=3);"
        " print(name)\n    except OSError: pass"
    )
    names = [f"{g.service}.{g.namespace}.svc" for g in (node, federation.gateways[federation.layout.nodes[1]])]
    said = node.in_gateway("agent", "python3", "-c", reach, *names, "gdi-broker.gdi.svc")
    assert names[1] not in said and "gdi-broker.gdi.svc" in said, "another node's gateway is not reached from here"


def test_an_agent_that_is_killed_finds_its_pod_again_and_an_evicted_pod_is_replaced(
    driver: Driver, node: AgentGateway, cluster: Cluster
) -> None:
    kept, evicted = begin(driver, slow_seconds=30), begin(driver, slow_seconds=30)
    under_way(driver, kept, evicted)
    (pod,) = node.pods(kept.run)
    (other,) = node.pods(evicted.run)
    cluster.kubectl("delete", "pods", "-n", node.namespace, "-l", "app.kubernetes.io/name=gdi-gateway", "--force")
    name = other["metadata"]["name"]
    eviction = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": name, "namespace": node.runs}}
    path = f"/api/v1/namespaces/{node.runs}/pods/{name}/eviction"
    cluster.kubectl("create", "--raw", path, "-f", "-", stdin=json.dumps(eviction))
    for one in (kept, evicted):
        driver.succeed(one)
        assert_once(driver, one)
    (left,) = node.pods(kept.run)
    assert left["metadata"]["uid"] == pod["metadata"]["uid"] and generations([left]) == ["1"]
    assert generations(node.pods(evicted.run))[-1] == "2"


def test_a_run_that_is_stopped_ends_at_the_node(driver: Driver, node: AgentGateway) -> None:
    stopped = begin(driver, slow_seconds=120)
    under_way(driver, stopped)
    driver.portals["alice"].airflow(
        "PATCH", f"/api/v2/dags/{stopped.workflow}/dagRuns/{stopped.dag_run}", json={"state": "failed"}
    ).raise_for_status()

    def over() -> bool:
        live = [t for t in driver.all_tasks(stopped.run) if t["state"] in LIVE]
        phases = {p["status"]["phase"] for p in node.pods(stopped.run)}
        return not live and not phases & {"Pending", "Running"}

    until("task and pod end", over, 180, every=1, why=lambda: str(node.pods(stopped.run))[:2000])
