"""charts/gdi installed in the test cluster: two replicas of the broker on PostgreSQL and OpenBao (by Kubernetes auth),
with the LS AAI stand-in.

The servers run on this machine; pods reach them at a node's address. The stand-in's own URLs name loopback, so a relay
beside each broker leads there.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from gdi.local_federation.openbao import POLICY, OpenBao, running
from tests.kubernetes.cluster import ROOT, Cluster, ClusterError
from tests.kubernetes.door import Door, Hatch
from tests.kubernetes.images import name_of
from tests.kubernetes.parts import API, SERVICES
from tests.support.broker_kit import PORTS
from tests.support.postgres_kit import Postgres, PostgresWorld, running_postgres

NAMESPACE, OUTSIDE = "gdi", "stand-ins"
RELAY = """
import asyncio, sys
from gdi.kit.socket_proxy import SocketProxy, Tcp
async def main():
    inside, outside = Tcp("127.0.0.1", int(sys.argv[1])), Tcp(sys.argv[2], int(sys.argv[3]))
    await SocketProxy(inside, outside, max_connections=256).start()
    await asyncio.Event().wait()
asyncio.run(main())
"""


@dataclass(frozen=True)
class Store:
    """An S3 on this machine: its port, the bucket, and a file with keys for it."""

    port: int
    bucket: str
    credentials: Path


@dataclass
class Centre:
    """What the broker's chart is to be installed with; every server listens on the loopback of who makes this.
    `values`: of the chart, beyond these; `callers`: who may call the broker besides Airflow and Snakemake pods;
    `store`: where it keeps what nodes push.
    """

    cluster: Cluster
    folder: Path
    bao: OpenBao
    postgres: Postgres
    database: str
    aai_port: int
    issuer: str
    client_secret: str
    public_url: str
    enrolment: dict[str, Any]
    values: dict[str, Any] = field(default_factory=dict)
    callers: list[dict[str, Any]] = field(default_factory=list)
    store: Store | None = None

    @property
    def values_file(self) -> Path:
        return self.folder / "values.yaml"

    def prepare(self, stack: ExitStack) -> None:
        """Namespaces, Secrets, Vault's Kubernetes auth, and the values file; what leads to the servers stays as long as
        the stack.
        """
        cluster, node = self.cluster, self.cluster.nodes[0].address
        wanted = [("vault", self.bao.port), ("postgres", self.postgres.port), ("aai", self.aai_port)]
        if self.store is not None:
            wanted.append(("store", self.store.port))
        hatches = {name: stack.enter_context(Hatch(cluster, node, port)) for name, port in wanted}
        for namespace in (NAMESPACE, OUTSIDE):
            cluster.kubectl("create", "namespace", namespace, check=False)
        cluster.apply(
            [
                o
                for name, port in (("vault", 8200), ("postgres", 5432), ("store", 8333))
                if name in hatches
                for o in outside(name, port, node, hatches[name].port)
            ]
        )
        secrets = {
            "gdi-broker-database": {"password": self.postgres.password},
            "gdi-broker-oidc": {"client-secret": self.client_secret},
        }
        kept: dict[str, Any] = {}
        if self.store is not None:
            secrets["gdi-broker-store"] = {"credentials.json": self.store.credentials.read_text()}
            kept["resultStore"] = {
                "location": f"s3://{self.store.bucket}/centre",
                "endpoint": f"http://store.{OUTSIDE}.svc:8333",
                "credentialsSecret": {"name": "gdi-broker-store"},
            }
        cluster.apply(
            [
                {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": n, "namespace": NAMESPACE}, "stringData": d}
                for n, d in secrets.items()
            ]
        )
        api = stack.enter_context(Door(cluster, API, 6443))
        _kubernetes_auth(cluster, self.bao, api.port)
        relay = {
            "name": "login",
            "image": name_of("broker"),
            "imagePullPolicy": "Never",
            "command": ["python3", "-c", RELAY, str(self.aai_port), node, str(hatches["aai"].port)],
            "securityContext": {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            },
            "resources": {"requests": {"cpu": "10m", "memory": "32Mi"}, "limits": {"memory": "128Mi"}},
        }
        enrolment = {name: value for name, value in self.enrolment.items() if name != "workload_issuers"}
        repository, tag = name_of("broker").rsplit(":", 1)
        servers = {"database": ["postgres"], "vault": ["vault"], "extra": ["aai", *(["store"] if kept else [])]}
        values = {
            "cluster": {"dns": {"namespace": "kube-system", "podLabels": {"k8s-app": "kube-dns"}, "ports": [53, 5353]}},
            "broker": {
                "publicUrl": self.public_url,
                "image": {"repository": repository, "tag": tag, "pullPolicy": "Never"},
                "database": {"url": f"postgresql+asyncpg://gdi@postgres.{OUTSIDE}.svc/{self.database}"},
                "oidc": {"issuer": self.issuer, "clientId": "token-broker"},
                "vault": {"addr": f"http://vault.{OUTSIDE}.svc:8200"},
                "extraContainers": [relay],
                "drainSeconds": 8,
                "resources": {"requests": {"cpu": "50m", "memory": "128Mi"}, "limits": {"memory": "512Mi"}},
                "network": {
                    "from": self.callers,
                    **{
                        key: [{"cidr": f"{node}/32", "ports": [hatches[n].port for n in names]}]
                        for key, names in servers.items()
                    },
                },
                **kept,
            },
            "enrolment": enrolment,
            **self.values,
        }
        self.values_file.write_text(yaml.safe_dump(values))

    def upgrade(self, *more: str, install: bool = False) -> str:
        """helm install or upgrade, waiting for all replicas."""
        verb = (
            ["install", "--take-ownership"] if install else ["upgrade"]
        )  # another test may have applied parts of the chart before
        chart = str(ROOT / "charts" / "gdi")
        try:
            return self.cluster.helm(
                *verb,
                "gdi",
                chart,
                "-n",
                NAMESPACE,
                "-f",
                str(self.values_file),
                "--wait",
                "--timeout",
                "8m",
                *more,
                timeout=500,
            )
        except ClusterError as error:
            said = self.cluster.kubectl(
                "logs",
                "-n",
                NAMESPACE,
                "-l",
                "app.kubernetes.io/name=gdi-broker",
                "-c",
                "broker",
                "--tail=20",
                check=False,
            )
            raise ClusterError(f"{error}\nThe broker's logs:\n{said}") from None

    def install(self, stack: ExitStack) -> str:
        """Installed and ready; the address of the broker's Service, which is reached at port 8080 from the cluster's
        network.
        """
        self.upgrade(install=True)
        # What stays of it shuts the namespace of runs, where other tests have pods.
        stack.callback(
            lambda: self.cluster.kubectl("delete", "networkpolicy", "gdi-default-deny", "-n", "gdi-runs", check=False)
        )
        stack.callback(
            lambda: self.cluster.helm("uninstall", "gdi", "-n", NAMESPACE, "--wait", "--timeout", "60s", check=False)
        )
        # A node reaches services by a route that real ones have: its default route. Here there is none, so that nothing
        # leads outside.
        self.cluster.run(["ip", "route", "replace", SERVICES, "dev", "nodes", "src", self.cluster.nodes[0].address])
        return str(self.cluster.get("service", "gdi-broker", NAMESPACE)["spec"]["clusterIP"])

    def airflows_identity(self, hours: int = 1) -> str:
        """A token of Airflow's service account for the broker, signed by the cluster."""
        return self.cluster.kubectl(
            "create", "token", "airflow", "-n", NAMESPACE, "--audience=token-broker", f"--duration={hours}h"
        ).strip()


class Coordinator(PostgresWorld):
    """The broker's world of the integration tests, whose brokers are the chart's pods behind their Service."""

    cluster: Cluster
    centre: Centre
    install_seconds = 0.0

    def identity(self, *_: Any, **__: Any) -> str:
        """Airflow's real identity."""
        return self.centre.airflows_identity()

    def upgrade(self, *more: str) -> str:
        return self.centre.upgrade(*more)


@contextmanager
def coordinator(cluster: Cluster, folder: Path) -> Iterator[Coordinator]:
    """With its servers; installed, ready, and reached at its public URL through the Service."""
    bao = OpenBao(folder / "openbao", PORTS.take(), PORTS.take())
    bao.folder.mkdir()
    with running_postgres() as postgres, running(bao), ExitStack() as stack:
        world = Coordinator(folder / "world", bao, postgres)
        stack.callback(world.stop)
        world.cluster = cluster
        world.centre = Centre(
            cluster,
            folder,
            bao,
            postgres,
            world.database,
            world.aai_port,
            world.issuer,
            world.secrets["broker"],
            world.public_url,
            world.enrolment(),
        )
        world.centre.prepare(stack)
        started = time.monotonic()
        address = world.centre.install(stack)
        world.install_seconds = time.monotonic() - started
        stack.enter_context(Door(cluster, address, 8080, world.ports[0]))
        yield world


def outside(name: str, port: int, address: str, target: int) -> list[dict[str, Any]]:
    """A Service whose endpoint is a server outside the cluster."""
    meta = {"name": name, "namespace": OUTSIDE}
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": meta,
        "spec": {"ports": [{"name": "tcp", "port": port, "targetPort": target}]},
    }
    labels = {"kubernetes.io/service-name": name}
    slice_ = {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "addressType": "IPv4",
        "metadata": {**meta, "labels": labels},
        "ports": [{"name": "tcp", "port": target}],
        "endpoints": [{"addresses": [address], "conditions": {"ready": True}}],
    }
    return [service, slice_]


def _kubernetes_auth(cluster: Cluster, bao: OpenBao, api: int) -> None:
    """As docs/install.md says: OpenBao reviews the broker's token at the API server and knows its service account by
    name.
    """
    account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "vault", "namespace": OUTSIDE}}
    binding = {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRoleBinding",
        "metadata": {"name": "vault-reviews-tokens"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "system:auth-delegator"},
        "subjects": [{"kind": "ServiceAccount", "name": "vault", "namespace": OUTSIDE}],
    }
    cluster.apply([account, binding])
    reviewer = cluster.kubectl("create", "token", "vault", "-n", OUTSIDE, "--duration=4h").strip()
    authority = (cluster.state / "pki" / "ca.crt").read_text()
    with bao.as_operator() as operator:
        operator.post("/v1/sys/auth/kubernetes", json={"type": "kubernetes"})
        config = {
            "kubernetes_host": f"https://127.0.0.1:{api}",
            "kubernetes_ca_cert": authority,
            "token_reviewer_jwt": reviewer,
            "disable_local_ca_jwt": True,
        }
        operator.post("/v1/auth/kubernetes/config", json=config).raise_for_status()
        operator.put(
            "/v1/sys/policies/acl/token-broker", json={"policy": POLICY.format(mount=bao.mount)}
        ).raise_for_status()
        role = {
            "bound_service_account_names": "gdi-broker",
            "bound_service_account_namespaces": NAMESPACE,
            "audience": "vault",
            "token_policies": ["token-broker"],
            "token_ttl": "10m",
            "token_no_default_policy": True,
        }
        operator.post("/v1/auth/kubernetes/role/token-broker", json=role).raise_for_status()


def pods_of(cluster: Cluster) -> dict[str, str]:
    """{name: uid} of the broker's pods that are not being deleted."""
    found = json.loads(
        cluster.kubectl("get", "pods", "-n", NAMESPACE, "-l", "app.kubernetes.io/name=gdi-broker", "-o", "json")
    )["items"]
    return {p["metadata"]["name"]: p["metadata"]["uid"] for p in found if "deletionTimestamp" not in p["metadata"]}
