"""charts/gdi-node installed in the test cluster for one node of a federation: a pod is its gateway, processes are its
archive, TES and S3.
"""

from __future__ import annotations

import json
import os
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import yaml

from gdi.kit.secret_files import Secrets
from gdi.local_federation.layout import Layout
from gdi.local_federation.parts import core, node, s3
from tests.kubernetes.cluster import ROOT, Cluster
from tests.kubernetes.door import Hatch
from tests.kubernetes.images import name_of
from tests.kubernetes.parts import API

PORT, INSIDE = 8080, 8081  # of its Services
USER = 10001  # of the image: a volume of this machine is not handed to it by Kubernetes
LABELS = {"app.kubernetes.io/name": "gdi-gateway"}
SNAKEMAKE = {"namespace": "gdi-runs", "podLabels": {"app.kubernetes.io/name": "gdi-snakemake"}}
AIRFLOW = {
    "namespace": "gdi",
    "podLabels": {"tier": "airflow"},
}  # where steps are pods; processes of a node are let in everywhere
BROKER = {"namespace": "gdi", "podLabels": {"app.kubernetes.io/name": "gdi-broker"}, "ports": [8080]}


def namespace_of(name: str) -> str:
    return f"gdi-{name}"


def host_of(name: str) -> str:
    """By which pods find the gateway of a node."""
    return f"{name}-gateway.{namespace_of(name)}.svc"


def opening(name: str, *ports: int) -> dict[str, Any]:
    """The gateway's pods as one end of a NetworkPolicy."""
    return {"namespace": namespace_of(name), "podLabels": LABELS, **({"ports": list(ports)} if ports else {})}


@dataclass
class Gateway:
    """The release of one node. Made, prepared, installed and asked within the cluster's network; the broker's release
    is there before.
    """

    cluster: Cluster
    layout: Layout
    secrets: Secrets
    name: str
    address: str = ""  # of its Service
    inside: str = ""  # URL of its internal listener

    @property
    def namespace(self) -> str:
        return namespace_of(self.name)

    @property
    def service(self) -> str:
        """By which its own runs reach it."""
        return f"{self.name}-gateway"

    @property
    def values_file(self) -> Path:
        return self.layout.folder("nodes", self.name, "gateway") / "values.yaml"

    def install(self, stack: ExitStack) -> None:
        """Installed and ready; it is gone with the stack, and its volume too."""
        cluster, name = self.cluster, self.name
        cluster.kubectl("create", "namespace", self.namespace, check=False)
        cluster.kubectl(
            "label", "namespace", self.namespace, "--overwrite", "pod-security.kubernetes.io/enforce=restricted"
        )
        cluster.apply([*self.made_secrets(), *self._volume()])
        stack.callback(lambda: cluster.kubectl("delete", f"pv/{name}-state", "--wait=false", check=False))
        stack.callback(
            lambda: cluster.kubectl("delete", "namespace", self.namespace, "--timeout=60s", check=False, timeout=70)
        )
        self.values_file.write_text(yaml.safe_dump(self.values(stack)))
        self.upgrade(install=True)
        stack.callback(
            lambda: cluster.helm("uninstall", name, "-n", self.namespace, "--wait", "--timeout", "60s", check=False)
        )
        self.address = str(cluster.get("service", self.service, self.namespace)["spec"]["clusterIP"])
        self.inside = (
            f"http://{cluster.get('service', f'{name}-gateway-internal', self.namespace)['spec']['clusterIP']}:{INSIDE}"
        )

    def upgrade(self, *more: str, install: bool = False) -> str:
        """helm install or upgrade, until the new pod is ready."""
        values = ("-f", str(self.values_file), "--wait", "--timeout", "3m")
        verb = "install" if install else "upgrade"
        return self.cluster.helm(
            verb, self.name, str(ROOT / "charts" / "gdi-node"), "-n", self.namespace, *values, *more, timeout=200
        )

    def audit(self) -> list[dict[str, Any]]:
        """As the node's operator reads it, newest last."""
        answer = httpx.get(
            f"{self.inside}/audit", params={"limit": 10_000}, timeout=20, trust_env=False
        ).raise_for_status()
        return [json.loads(line) for line in answer.text.splitlines()]

    def made_secrets(self) -> list[dict[str, Any]]:
        """As docs/install.md makes them of the node's own files."""
        secrets, name = self.secrets, self.name
        made = {
            "gdi-node-key": {"key.pem": core.node_key(secrets, name).read_text()},
            "gdi-node-tes": {"password": secrets.read(f"{name}-tes-password")},
            "gdi-node-crypt4gh": {"public.pem": node.tes_keys(self.layout, secrets, name)[1].read_text()},
            "gdi-node-s3": {"credentials.json": s3.credentials_file(secrets, name, "gateway").read_text()},
        }
        return [
            {
                "apiVersion": "v1",
                "kind": "Secret",
                "metadata": {"name": n, "namespace": self.namespace},
                "stringData": d,
            }
            for n, d in made.items()
        ]

    def _volume(self) -> list[dict[str, Any]]:
        """A volume on this machine, which both of the cluster's nodes are."""
        folder = self.layout.folder("nodes", self.name, "state")
        os.chown(folder, USER, USER)
        size, modes = {"storage": "1Gi"}, ["ReadWriteOnce"]
        claim = {"name": "state", "namespace": self.namespace}
        volume = {
            "capacity": size,
            "accessModes": modes,
            "hostPath": {"path": str(folder)},
            "claimRef": claim,
            "storageClassName": "",
        }
        wanted = {
            "accessModes": modes,
            "resources": {"requests": size},
            "volumeName": f"{self.name}-state",
            "storageClassName": "",
        }
        return [
            {
                "apiVersion": "v1",
                "kind": "PersistentVolume",
                "metadata": {"name": f"{self.name}-state"},
                "spec": volume,
            },
            {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": claim, "spec": wanted},
        ]

    def values(self, stack: ExitStack) -> dict[str, Any]:
        layout, name = self.layout, self.name
        ports = {
            part: stack.enter_context(Hatch(self.cluster, API, layout.ports[f"{name}/{part}"])).port
            for part in ("sda", "tes", "s3")
        }
        url = {part: f"http://{API}:{port}" for part, port in ports.items()}
        repository, tag = name_of("node").rsplit(":", 1)
        buckets = {"bucket": s3.workspace_bucket(name), "releaseBucket": s3.release_bucket(name)}
        return {
            "node": {"id": name, "publicUrl": layout.gateway_url(name), "placement": "coordinator"},
            "broker": {"url": "http://gdi-broker.gdi.svc:8080", "issuer": layout.url("broker")},
            "gateway": {
                "image": {"repository": repository, "tag": tag, "pullPolicy": "Never"},
                "persistence": {"existingClaim": "state"},
                "policy": yaml.safe_load(node.policy(layout, name).read_text()),
                "datasets": [node.descriptor(dataset) for dataset in layout.datasets(name)],
                "sda": {"url": url["sda"], "prefix": "s3-encrypted"},
                "tes": {"url": url["tes"], "user": node.TES_USER, "flavour": "ga4gh"},
                "workspace": {"endpoint": url["s3"], **buckets},
                "shutdownSeconds": 20,
                "resources": {"requests": {"cpu": "50m", "memory": "128Mi"}, "limits": {"memory": "512Mi"}},
                "network": {
                    "from": [SNAKEMAKE, AIRFLOW],
                    "to": [BROKER, {"cidr": f"{API}/32", "ports": list(ports.values())}],
                },
            },
            "funnel": {"enabled": False},
        }
