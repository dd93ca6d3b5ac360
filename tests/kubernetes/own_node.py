"""charts/gdi-node in placement `node` in the test cluster, as part of a federation: the agent is a container beside the
gateway, its Snakemake pods run in a namespace of the node's own, what it releases is pushed to the centre's S3.
"""

from __future__ import annotations

import json
from contextlib import ExitStack
from typing import Any

import boto3
import yaml
from botocore.config import Config

from gdi.local_federation.parts import node, s3
from tests.kubernetes import images
from tests.kubernetes.cluster import ROOT
from tests.kubernetes.coordinator import RELAY, Store
from tests.kubernetes.door import Hatch
from tests.kubernetes.federated import POD, ClusterFederation
from tests.kubernetes.gateways import Gateway
from tests.kubernetes.parts import API

BUCKET = "centre-results"
SECURE = {"allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]}}


class AgentGateway(Gateway):
    """The chart as it is by default."""

    @property
    def service(self) -> str:
        return f"{self.name}-gateway-runs"

    @property
    def runs(self) -> str:
        """The namespace of its Snakemake pods."""
        return f"{self.namespace}-runs"

    def install(self, stack: ExitStack) -> None:
        remove = ("delete", "namespace", self.runs, "--timeout=60s")
        stack.callback(lambda: self.cluster.kubectl(*remove, check=False, timeout=70))
        super().install(stack)

    def values(self, stack: ExitStack) -> dict[str, Any]:
        made, layout = super().values(stack), self.layout
        aai = layout.ports["aai"]
        out = stack.enter_context(Hatch(self.cluster, API, aai)).port
        repository, tag = images.name_of("snakemake").rsplit(":", 1)
        made["node"]["placement"] = "node"
        made["gateway"]["policy"] = yaml.safe_load(node.policy(layout, self.name, ROOT / "workflows").read_text())
        # The stand-in of LS AAI and REMS names the loopback in its URLs.
        made["gateway"]["extraContainers"] = [
            {
                "name": "visas",
                "image": images.name_of("node"),
                "imagePullPolicy": "Never",
                "command": ["python3", "-c", RELAY, str(aai), API, str(out)],
                "securityContext": SECURE,
            }
        ]
        made["gateway"]["network"]["to"][1]["ports"].append(out)
        made["runs"] = {
            "image": {"repository": repository, "tag": tag, "pullPolicy": "Never"},
            "pods": {"defaults": POD, "start_timeout": 240},
        }
        made["cluster"] = {
            "dns": {"namespace": "kube-system", "podLabels": {"k8s-app": "kube-dns"}, "ports": [53, 5353]},
            "apiServer": [{"cidr": f"{API}/32", "ports": [6443]}],
        }
        return made

    def pods(self, run: str) -> list[dict[str, Any]]:
        """Its Snakemake pods of a run, in the order in which they were made."""
        found = self.cluster.kubectl("get", "pods", "-n", self.runs, "-l", f"gdi-run={run}", "-o", "json")
        return sorted(json.loads(found)["items"], key=lambda p: str(p["metadata"]["creationTimestamp"]))

    def in_gateway(self, container: str, *command: str) -> str:
        where = ("-n", self.namespace, f"deploy/{self.name}-gateway", "-c", container)
        return self.cluster.kubectl("exec", *where, "--", *command)


class OwnFederation(ClusterFederation):
    """A federation whose nodes start Snakemake themselves. The centre's S3 is a bucket of the first node's server."""

    gateway = AgentGateway
    placement = "node"

    def store(self) -> Store:
        first = self.layout.nodes[0]
        self.supervisor.wait_ready([f"{n}-s3" for n in self.layout.nodes], timeout=240)
        credentials = s3.credentials_file(self.secrets, first, "setup")
        keys = json.loads(credentials.read_text())
        client = boto3.client(
            "s3",
            endpoint_url=self.layout.url(f"{first}/s3"),
            aws_access_key_id=keys["access_key"],
            aws_secret_access_key=keys["secret_key"],
            region_name="us-east-1",
            config=Config(connect_timeout=5, read_timeout=30),
        )
        client.create_bucket(Bucket=BUCKET)
        return Store(self.layout.ports[f"{first}/s3"], BUCKET, credentials)

    def airflow_environment(self) -> dict[str, str]:
        first = self.layout.nodes[0]
        return {
            **super().airflow_environment(),
            "GDI_RESULT_STORE": f"s3://{BUCKET}/centre",
            "GDI_RESULT_STORE_ENDPOINT": self.layout.url(f"{first}/s3"),
            "GDI_RESULT_STORE_CREDENTIALS_FILE": str(s3.credentials_file(self.secrets, first, "setup")),
        }
