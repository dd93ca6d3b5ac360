"""The chart's own Funnel in the test cluster: workers, executors and their volumes are pods and claims. The program is
what GDI_FUNNEL names.

There is no storage class that makes volumes in the test cluster; `Volumes` is one: a folder of this machine, which both
of its nodes are, for each claim.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import tempfile
import threading
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from gdi.local_federation.parts import core, node, s3
from gdi.local_federation.supervisor import ServiceSpec
from gdi.local_federation.tes import funnel
from tests.kubernetes import images
from tests.kubernetes.cluster import Cluster, ClusterError
from tests.kubernetes.coordinator import RELAY
from tests.kubernetes.door import Hatch
from tests.kubernetes.federated import ClusterFederation, relay
from tests.kubernetes.gateways import USER, Gateway
from tests.kubernetes.parts import API

STORAGE = "shared"
FUNNEL = "localhost/gdi-funnel:test"
TASK = "docker.io/library/gdi-task:1"  # what the cluster understands by the catalogue's gdi-task:1


def program() -> Path | None:
    return funnel.chosen()


def load(cluster: Cluster) -> None:
    """Funnel's image, of the program and a small system, and the tasks' image under the name that workflows have for
    it.
    """
    found = program()
    assert found is not None
    images.built("task")
    with tempfile.TemporaryDirectory() as scratch:
        made = Path(scratch)
        (made / "funnel").write_bytes(found.read_bytes())
        (made / "funnel").chmod(0o755)
        (made / "Dockerfile").write_text(
            f'FROM {images.name_of("task")}\nCOPY funnel /usr/local/bin/funnel\nENTRYPOINT ["funnel"]\n'
        )
        for name, archive in ((FUNNEL, made / "funnel.tar"), (TASK, made / "task.tar")):
            images.derived(name, made if name == FUNNEL else None, images.name_of("task"), archive)
            cluster.load(archive)


class Volumes(threading.Thread):
    """Gives each claim of the class a folder of this machine, until it is closed."""

    def __init__(self, cluster: Cluster, namespace: str, folder: Path) -> None:
        super().__init__(daemon=True)
        self.cluster, self.namespace, self.folder = cluster, namespace, folder
        self.made: set[str] = set()
        self._end = threading.Event()

    def run(self) -> None:
        while not self._end.wait(0.5):
            with contextlib.suppress(ClusterError, subprocess.TimeoutExpired):
                claims = json.loads(self.cluster.kubectl("get", "pvc", "-n", self.namespace, "-o", "json"))["items"]
                new = [
                    c
                    for c in claims
                    if c["spec"].get("storageClassName") == STORAGE and c["metadata"]["uid"] not in self.made
                ]
                if new:
                    self.cluster.apply(
                        [self._volume(c["metadata"]["name"], c["spec"]["resources"]["requests"]) for c in new]
                    )
                    self.made |= {c["metadata"]["uid"] for c in new}

    def close(self) -> None:
        self._end.set()
        self.join(30)

    def _volume(self, claim: str, size: dict[str, Any]) -> dict[str, Any]:
        folder = self.folder / claim
        folder.mkdir()
        # What Kubernetes does for fsGroup with real volumes; with folders of a machine it does not.
        os.chown(folder, 0, USER)
        folder.chmod(0o2775)
        spec = {
            "capacity": size,
            "accessModes": ["ReadWriteMany"],
            "hostPath": {"path": str(folder)},
            "storageClassName": STORAGE,
            "claimRef": {"name": claim, "namespace": self.namespace},
            "persistentVolumeReclaimPolicy": "Retain",
        }
        return {
            "apiVersion": "v1",
            "kind": "PersistentVolume",
            "metadata": {"name": claim, "labels": {"gdi-test": "volume"}},
            "spec": spec,
        }


class FunnelGateway(Gateway):
    """The chart with its Funnel. `storage`: HOST:PORT of the node's S3 as pods reach it, once it is installed."""

    storage = ""

    @property
    def tasks(self) -> str:
        return f"{self.namespace}-tasks"

    def install(self, stack: ExitStack) -> None:
        """The namespace of tasks and what it needs are there before the chart, as docs/install.md has it."""
        cluster, tasks = self.cluster, self.tasks
        cluster.kubectl("create", "namespace", tasks, check=False)
        cluster.kubectl("label", "namespace", tasks, "--overwrite", "pod-security.kubernetes.io/enforce=restricted")
        wanted = {"gdi-node-tes", "gdi-node-s3", "gdi-node-crypt4gh"}
        given = [
            {**s, "metadata": {**s["metadata"], "namespace": tasks}}
            for s in self.made_secrets()
            if s["metadata"]["name"] in wanted
        ]
        keys = s3.credentials_file(self.secrets, self.name, "tes").read_text()  # a worker's own, not the gateway's
        cluster.apply(
            [
                {**s, "stringData": {"credentials.json": keys}} if s["metadata"]["name"] == "gdi-node-s3" else s
                for s in given
            ]
        )
        state = self.layout.folder("nodes", self.name, "funnel-state")
        os.chown(state, USER, USER)
        cluster.apply(self._state(state))
        volumes = Volumes(cluster, tasks, self.layout.folder("nodes", self.name, "volumes"))
        volumes.start()
        stack.callback(lambda: cluster.kubectl("delete", "pv", "-l", "gdi-test=volume", "--wait=false", check=False))
        stack.callback(lambda: cluster.kubectl("delete", "namespace", tasks, "--wait=false", check=False))
        stack.callback(volumes.close)
        super().install(stack)

    def made_secrets(self) -> list[dict[str, Any]]:
        made = super().made_secrets()
        keys = node.tes_keys(self.layout, self.secrets, self.name)
        more = {
            "gdi-node-crypt4gh": {"secret.pem": keys[0].read_text(), "public.pem": keys[1].read_text()},
            "gdi-node-funnel-oidc": {"client-secret": self.secrets.read(f"client-{core.tes_client_id(self.name)}")},
        }
        known = [s for s in made if s["metadata"]["name"] not in more]
        return known + [
            {
                "apiVersion": "v1",
                "kind": "Secret",
                "metadata": {"name": n, "namespace": self.namespace},
                "stringData": d,
            }
            for n, d in more.items()
        ]

    def values(self, stack: ExitStack) -> dict[str, Any]:
        layout, name = self.layout, self.name
        made = super().values(stack)
        aai = stack.enter_context(Hatch(self.cluster, API, layout.ports["aai"])).port
        login = {
            "name": "login",
            "image": images.name_of("node"),
            "imagePullPolicy": "Never",
            "command": ["python3", "-c", RELAY, str(layout.ports["aai"]), API, str(aai)],
            "securityContext": {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            },
        }
        self.storage = made["gateway"]["workspace"]["endpoint"].removeprefix("http://")
        repository, tag = FUNNEL.rsplit(":", 1)
        made["gateway"]["tes"] = {"user": node.TES_USER, "flavour": "funnel"}
        made["funnel"] = {
            "enabled": True,
            "image": {"repository": repository, "tag": tag, "pullPolicy": "Never"},
            "persistence": {"existingClaim": "funnel-state"},
            "oidc": {
                "issuer": layout.issuer,
                "clientId": core.tes_client_id(name),
                "audience": layout.url(f"{name}/tes"),
            },
            "tasks": {"createNamespace": False, "storageClass": STORAGE, "volumeSize": "1Gi"},
            "extraContainers": [login],
            "network": {"to": [{"cidr": f"{API}/32", "ports": [int(self.storage.rsplit(":", 1)[1]), aai]}]},
        }
        made["cluster"] = {
            "dns": {"namespace": "kube-system", "podLabels": {"k8s-app": "kube-dns"}, "ports": [53, 5353]},
            "apiServer": [{"cidr": f"{API}/32", "ports": [6443]}],
        }
        return made

    def _state(self, folder: Path) -> list[dict[str, Any]]:
        size, modes = {"storage": "1Gi"}, ["ReadWriteOnce"]
        claim = {"name": "funnel-state", "namespace": self.namespace}
        labelled = {"name": f"{self.name}-funnel-state", "labels": {"gdi-test": "volume"}}
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
            "volumeName": labelled["name"],
            "storageClassName": "",
        }
        return [
            {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": self.namespace}},
            {"apiVersion": "v1", "kind": "PersistentVolume", "metadata": labelled, "spec": volume},
            {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": claim, "spec": wanted},
        ]


class FunnelFederation(ClusterFederation):
    """A federation whose nodes run the chart's Funnel."""

    gateway = FunnelGateway

    def tes(self, name: str) -> ServiceSpec:
        gateway = self.gateways[name]
        address = str(self.cluster.get("service", f"{name}-funnel", gateway.namespace)["spec"]["clusterIP"])
        ready = node.funnel_answers(
            self.layout.url(f"{name}/tes") + "/ga4gh/tes/v1/service-info", self.secrets.read(f"{name}-tes-password")
        )
        return ServiceSpec(f"{name}-tes", relay(self.layout.ports[f"{name}/tes"], address, 8000), ready)
