"""NetworkPolicies hold in the test cluster: a connection that no policy allows fails, so that a chart's openings can be
tested by connecting.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.kubernetes.cluster import Cluster, until
from tests.kubernetes.pods import pod, serve
from tests.kubernetes.rules import matches

CONNECT = "import socket, sys; socket.create_connection((sys.argv[1], int(sys.argv[2])), 3)"
DENY = {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
DNS = {
    "to": [
        {
            "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "kube-system"}},
            "podSelector": {"matchLabels": {"k8s-app": "kube-dns"}},
        }
    ],
    "ports": [{"port": 53, "protocol": "UDP"}, {"port": 53, "protocol": "TCP"}],
}


def policy(name: str, spec: dict[str, Any], namespace: str = "walls") -> dict[str, Any]:
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": name, "namespace": namespace},
        "spec": spec,
    }


def reaches(cluster: Cluster, source: str, host: str, port: int, namespace: str = "walls") -> bool:
    said = cluster.run(
        [
            str(cluster.bin / "kubectl"),
            "exec",
            "-n",
            namespace,
            source,
            "--",
            "sh",
            "-c",
            f"python3 -c '{CONNECT}' {host} {port} && echo connected || true",
        ],
        check=True,
        timeout=30,
    )
    return "connected" in said


@pytest.fixture(scope="module")
def walls(cluster: Cluster, broker_image: None) -> Iterator[Cluster]:
    """Three pods in a namespace, a fourth in another; each serves HTTP at 8000."""
    cluster.apply(
        [
            {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": {"room": name}}}
            for name in ("walls", "outside")
        ]
    )
    made = [
        serve(name, namespace) for name, namespace in (("a", "walls"), ("b", "walls"), ("c", "walls"), ("d", "outside"))
    ]
    cluster.apply([manifest for manifests in made for manifest in manifests])
    for namespace in ("walls", "outside"):
        cluster.kubectl("wait", "--for=condition=Ready", "pods", "--all", "-n", namespace, "--timeout=90s", timeout=100)
    yield cluster
    cluster.kubectl("delete", "namespace", "walls", "outside", "--wait=false")


def test_without_a_policy_all_reach_each_other(walls: Cluster) -> None:
    until(
        "kube-proxy knows the new service", lambda: reaches(walls, "a", "b.walls.svc", 80), 20
    )  # a pod is ready before it does
    until("the other namespace, too", lambda: reaches(walls, "d", "b.walls.svc", 80, "outside"))


def test_what_no_policy_allows_is_refused_and_what_one_allows_goes_through(walls: Cluster) -> None:
    to_b = {"podSelector": {"matchLabels": {"app": "a"}}, "policyTypes": ["Egress"]}
    from_a = {"podSelector": {"matchLabels": {"app": "b"}}, "policyTypes": ["Ingress"]}
    walls.apply([policy("deny", DENY)])
    until("the default is denied", lambda: not reaches(walls, "d", "b.walls.svc", 80, "outside"), 120)
    assert not reaches(walls, "a", "b.walls.svc", 80)
    assert not reaches(walls, "a", "d.outside.svc", 80)
    assert not reaches(walls, "a", "kubernetes.default.svc", 443)
    address = walls.get("pod", "b", "walls")["status"]["podIP"]
    assert not reaches(walls, "a", address, 8000), "by its address it must be as closed as by its name"
    walls.apply(
        [
            policy(
                "a-out",
                {
                    **to_b,
                    "egress": [
                        {"to": [{"podSelector": {"matchLabels": {"app": "b"}}}], "ports": [{"port": "http"}]},
                        DNS,
                    ],
                },
            ),
            policy(
                "b-in",
                {
                    **from_a,
                    "ingress": [
                        {
                            "from": [
                                {
                                    "podSelector": {
                                        "matchExpressions": [{"key": "app", "operator": "In", "values": ["a"]}]
                                    }
                                }
                            ]
                        }
                    ],
                },
            ),
        ]
    )
    until("the opening holds", lambda: reaches(walls, "a", "b.walls.svc", 80), 120)
    assert not reaches(walls, "c", "b.walls.svc", 80)
    assert not reaches(walls, "d", "b.walls.svc", 80, "outside")
    assert not reaches(walls, "a", "c.walls.svc", 80)
    walls.apply(
        [
            policy(
                "b-in-outside",
                {**from_a, "ingress": [{"from": [{"namespaceSelector": {"matchLabels": {"room": "outside"}}}]}]},
            )
        ]
    )
    until("another namespace is let in", lambda: reaches(walls, "d", "b.walls.svc", 80, "outside"), 120)


def test_a_pod_never_runs_a_moment_without_its_rules(walls: Cluster) -> None:
    address = walls.get("pod", "d", "outside")["status"]["podIP"]
    walls.apply([policy("deny", DENY)])
    attempt = f"import socket; s = socket.socket(); s.settimeout(2); print(s.connect_ex(('{address}', 8000)))"
    walls.apply([pod("early", attempt, "walls")])
    until(
        "the pod ends",
        lambda: walls.get("pod", "early", "walls").get("status", {}).get("phase") in ("Succeeded", "Failed"),
        120,
    )
    assert walls.kubectl("logs", "early", "-n", "walls").strip() not in ("", "0")


def test_a_block_of_addresses_has_its_exceptions(walls: Cluster) -> None:
    b, c = (walls.get("pod", name, "walls")["status"]["podIP"] for name in ("b", "c"))
    block = {"cidr": "10.244.0.0/16", "except": [f"{c}/32"]}
    out = {
        "podSelector": {"matchLabels": {"app": "d"}},
        "policyTypes": ["Egress"],
        "egress": [{"to": [{"ipBlock": block}], "ports": [{"port": 7000, "endPort": 8500}]}],
    }
    walls.apply(
        [
            policy("d-out", out, "outside"),
            policy("open", {"podSelector": {}, "policyTypes": ["Ingress"], "ingress": [{}]}),
        ]
    )
    until("the block is open", lambda: reaches(walls, "d", b, 8000, "outside"), 120)
    assert not reaches(walls, "d", c, 8000, "outside")


def test_selectors_mean_what_kubernetes_says() -> None:
    labels = {"app": "a", "tier": "web"}
    assert matches({}, labels)
    assert matches({"matchLabels": {"app": "a"}, "matchExpressions": [{"key": "tier", "operator": "Exists"}]}, labels)
    assert not matches({"matchExpressions": [{"key": "app", "operator": "NotIn", "values": ["a"]}]}, labels)
    assert matches({"matchExpressions": [{"key": "zone", "operator": "NotIn", "values": ["a"]}]}, labels)
    assert not matches({"matchExpressions": [{"key": "zone", "operator": "In", "values": ["a"]}]}, labels)
    assert matches({"matchExpressions": [{"key": "zone", "operator": "DoesNotExist"}]}, labels)
