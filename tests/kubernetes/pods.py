"""Manifests of small pods for the tests: our own image, a Python program, the pod security standard "restricted"."""

from __future__ import annotations

from typing import Any

from tests.kubernetes.cluster import Cluster, until
from tests.kubernetes.images import name_of
from tests.kubernetes.parts import API

RESTRICTED = {
    "runAsNonRoot": True,
    "runAsUser": 10001,
    "allowPrivilegeEscalation": False,
    "readOnlyRootFilesystem": True,
    "capabilities": {"drop": ["ALL"]},
    "seccompProfile": {"type": "RuntimeDefault"},
}
CONNECT = "import socket, sys; socket.create_connection((sys.argv[1], int(sys.argv[2])), 4); print('connected')"
SERVER = "import http.server; http.server.HTTPServer(('', 8000), http.server.SimpleHTTPRequestHandler).serve_forever()"


def pod(name: str, program: str, namespace: str = "default", target: str = "broker", **spec: Any) -> dict[str, Any]:
    """A pod labelled `app: NAME` that runs the program once in the target's image; `spec` replaces parts of its
    spec.
    """
    container = {
        "name": "main",
        "image": name_of(target),
        "imagePullPolicy": "Never",
        "command": ["python3", "-c", program],
        "securityContext": RESTRICTED,
    }
    metadata = {"name": name, "namespace": namespace, "labels": {"app": name}}
    defaults = {"restartPolicy": "Never", "terminationGracePeriodSeconds": 0, "automountServiceAccountToken": False}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": metadata,
        "spec": {**defaults, "containers": [container], **spec},
    }


def reaches(cluster: Cluster, name: str, namespace: str, host: str, port: int) -> bool:
    """Whether a connection from a pod comes about; `name` as for kubectl exec."""
    command = f'python3 -c "{CONNECT}" {host} {port} 2>/dev/null || true'
    said = cluster.kubectl("exec", "-n", namespace, name, "--", "sh", "-c", command, timeout=40)
    return "connected" in said


def finished(cluster: Cluster, name: str, seconds: float = 60) -> str:
    """The log of a pod in the default namespace, once it succeeded."""

    def phase() -> str:
        return str(cluster.get("pod", name).get("status", {}).get("phase", ""))

    until(
        f"pod {name} ends",
        lambda: phase() in ("Succeeded", "Failed"),
        seconds,
        why=lambda: cluster.kubectl("describe", "pod", name, check=False)[-2000:],
    )
    log = cluster.kubectl("logs", name)
    assert phase() == "Succeeded", log
    return log


def serve(name: str, namespace: str = "default") -> list[dict[str, Any]]:
    """A pod that answers HTTP at 8000 (`http`), and a service of its name in front of it at 80."""
    made = pod(name, SERVER, namespace)
    made["spec"]["containers"][0].update(
        ports=[{"name": "http", "containerPort": 8000}],
        readinessProbe={"tcpSocket": {"port": "http"}, "periodSeconds": 1},
    )
    service = {"selector": {"app": name}, "ports": [{"port": 80, "targetPort": "http"}]}
    return [
        made,
        {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name, "namespace": namespace}, "spec": service},
    ]


def stand_in(name: str, port: int, namespace: str = "default") -> list[dict[str, Any]]:
    """A service at 80 in front of what a test runs at the first node's address (Cluster.spawn): pods find it as
    NAME.NAMESPACE.svc.
    """
    labels = {"kubernetes.io/service-name": name}
    return [
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": name, "namespace": namespace},
            "spec": {"ports": [{"port": 80, "targetPort": port}]},
        },
        {
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": {"name": name, "namespace": namespace, "labels": labels},
            "addressType": "IPv4",
            "ports": [{"port": port}],
            "endpoints": [{"addresses": [API]}],
        },
    ]
