"""Who follows docs/install.md: a cluster of their own, a folder, the document's names and this machine's in two tables,
the servers that a centre has outside.

The broker and the gateway are pods of the Dockerfile's images. LS AAI, REMS, PostgreSQL, OpenBao, S3, the TES and the
archive are servers of this machine.
"""

from __future__ import annotations

import json
import os
import secrets
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml

from gdi.local_federation.openbao import OpenBao, running
from tests.kubernetes import images
from tests.kubernetes.cluster import ROOT, Cluster
from tests.kubernetes.coordinator import OUTSIDE, RELAY, outside
from tests.kubernetes.door import Door, Hatch
from tests.kubernetes.gateways import USER
from tests.kubernetes.parts import API, SERVICES

from tests.support.broker_kit import PORTS  # isort: skip
from tests.support.gateway_world import FakeBroker, FakeSda, FakeTes  # isort: skip
from tests.support.weed import Weed  # isort: skip
from tests.support.postgres_kit import PostgresWorld, running_postgres  # isort: skip
from tests.support.runbook import Shell, blocks, under  # isort: skip

DOCUMENT = "install.md"
# What is not run, and what checks it instead.
NOT_RUN = {
    "for target in airflow broker node snakemake task; do": (
        "no registry: tests/kubernetes/images.py builds the same targets of the same Dockerfile"
    ),
    "helm repo add apache-airflow ": "no internet: the chart cannot be had",
    "helm install airflow apache-airflow/airflow ": (
        "no internet; test_charts.py checks its values file against the chart's documented keys"
    ),
}
GATEWAY = f"env PYTHONPATH={ROOT} {sys.executable} -m node_gateway.main"  # what the node's image starts
SECRET_FILES = (
    "airflow-database-url",
    "airflow-redis-url",
    "airflow-fernet-key",
    "airflow-api-secret",
    "airflow-jwt-secret",
    "tes-password",
    "tes-client-secret",
)


class Users(PostgresWorld):
    """LS AAI, REMS and who signs in there; the broker is the chart's."""

    cluster: Cluster

    def identity(self, *_: Any, **__: Any) -> str:
        """Airflow's, as the cluster signs it."""
        return self.cluster.kubectl("create", "token", "airflow", "-n", "gdi", "--audience=token-broker").strip()


class Reader:
    """Who installs: follows the document in a folder of their own, with the names below instead of the document's."""

    def __init__(self, cluster: Cluster, folder: Path, users: Users, stack: ExitStack) -> None:
        self.cluster, self.folder, self.users, self.stack = cluster, folder, users, stack
        self.said: dict[str, str] = {}
        node = cluster.nodes[0].address
        self.node, self.s3 = node, Weed(self._folder("s3", ("workspace", "releases")))
        stack.callback(self.s3.close)
        (self._folder("bin") / "vault").symlink_to(
            Path(sys.executable).parent / "bao"
        )  # OpenBao's program has Vault's commands
        beside = FakeBroker()  # whom the stand-ins of TES and archive would ask; nobody asks them here
        tes, sda = FakeTes(beside), FakeSda(beside)
        for one in (beside, tes, sda):
            stack.callback(one.server.stop)
        behind = {"postgres": users.postgres.port, "vault": users.bao.port, "aai": users.aai_port}
        stand_ins = {"s3": self.s3.url, "tes": tes.server.url, "sda": sda.server.url}
        behind |= {name: int(url.rpartition(":")[2]) for name, url in stand_ins.items()}
        self.ports = {name: stack.enter_context(Hatch(cluster, node, port)).port for name, port in behind.items()}
        self.api = stack.enter_context(Door(cluster, API, 6443)).port
        self.commands = {
            # Vault is outside of this cluster: what the document says of that.
            "kubernetes_host=https://kubernetes.default.svc": (
                f"kubernetes_host=https://127.0.0.1:{self.api} kubernetes_ca_cert=@{cluster.state}/pki/ca.crt "
                "token_reviewer_jwt=@reviewer-token disable_local_ca_jwt=true"
            ),
            'docker run --rm -v "$PWD:/keys" --user "$(id -u)" registry.example.org/gdi-node:0.1.0 init-key /keys/': (
                f"{GATEWAY} init-key "
            ),
            "registry.example.org/": "localhost/",
            "-f values.yaml": "-f values.yaml -f here.yaml",
            "-f node-values.yaml": "-f node-values.yaml -f node-here.yaml",
            "DAY=2026-11-22": "DAY=$(date +%F)",
        }
        self.values = {
            "registry.example.org/": "localhost/",
            "postgres.postgres.svc/gdi": f"postgres.{OUTSIDE}.svc/{users.database}",
            "https://login.aai.lifescience-ri.eu/oidc": users.issuer,
            "clientId: gdi-broker": "clientId: token-broker",
            "https://vault.example.org": f"http://vault.{OUTSIDE}.svc:8200",
            "https://rems.example.org/": f"{users.aai_url}/rems/",
            "from: [{namespace: ingress-nginx}] ": "from: [{namespace: ingress-nginx}, {namespace: gdi-node-a}] ",
            "database: [{namespace: postgres, ports: [5432]}]": (
                f"database: [{{cidr: {node}/32, ports: [{self.ports['postgres']}]}}]"
            ),
            "vault: [{cidr: 192.0.2.7/32, ports: [443]}]": (
                f"vault: [{{cidr: {node}/32, ports: [{self.ports['vault']}]}}]"
            ),
        }

    def _folder(self, name: str) -> Path:
        made = self.folder / name
        made.mkdir()
        return made

    # --- what is there before each section -------------------------------------------------------

    def before(self, section: str) -> None:
        steps: dict[str, Callable[[], None]] = {
            "2.": self._servers,
            "3.": self._files,
            "4.": self._values,
            "5.": self._reach_the_broker,
            "6.": self._nodes_values,
            "7.": self._enrol,
        }
        steps.get(section.split(" ")[0], lambda: None)()

    def _servers(self) -> None:
        """PostgreSQL and Vault by the names that pods have for them, and the account by which Vault asks the cluster
        about tokens.
        """
        self.cluster.kubectl("create", "namespace", OUTSIDE)
        reviews = {
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "ClusterRoleBinding",
            "metadata": {"name": "vault-reviews-tokens"},
            "roleRef": {
                "apiGroup": "rbac.authorization.k8s.io",
                "kind": "ClusterRole",
                "name": "system:auth-delegator",
            },
            "subjects": [{"kind": "ServiceAccount", "name": "vault", "namespace": OUTSIDE}],
        }
        account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "vault", "namespace": OUTSIDE}}
        named = [
            o
            for name, port in (("vault", 8200), ("postgres", 5432))
            for o in outside(name, port, self.node, self.ports[name])
        ]
        self.cluster.apply([account, reviews, *named])
        (self.folder / "reviewer-token").write_text(
            self.cluster.kubectl("create", "token", "vault", "-n", OUTSIDE, "--duration=2h").strip()
        )

    def _files(self) -> None:
        """The secrets that the document takes from files."""
        given = {name: secrets.token_urlsafe(24) for name in SECRET_FILES}
        given |= {
            "broker-database-password": self.users.postgres.password,
            "broker-client-secret": self.users.secrets["broker"],
        }
        given |= dict.fromkeys(
            ("gateway-s3-credentials.json", "tasks-s3-credentials.json"),
            json.dumps({"access_key": self.s3.access, "secret_key": self.s3.secret}),
        )
        for name, content in given.items():
            (self.folder / name).write_text(content)

    def _values(self) -> None:
        """The document's own values, which the chart takes as they stand; and what only this machine's stand-ins
        need.
        """
        (text,) = (b.text for b in blocks(DOCUMENT) if b.heading.startswith("4.") and b.language == "yaml")
        (self.folder / "document.yaml").write_text(text)
        self.shell().run("helm install gdi charts/gdi -n gdi -f document.yaml --dry-run=server")
        for theirs, ours in self.values.items():
            assert theirs in text, f"the document's values no longer have {theirs}"
            text = text.replace(theirs, ours)
        (self.folder / "values.yaml").write_text(text)
        # LS AAI's URLs name this machine's loopback: a relay in each broker's pod leads there.
        arguments = [str(self.users.aai_port), self.node, str(self.ports["aai"])]
        relay = {
            "name": "login",
            "image": images.name_of("broker"),
            "command": ["python3", "-c", RELAY, *arguments],
            "securityContext": {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            },
            "resources": {"requests": {"cpu": "10m", "memory": "32Mi"}, "limits": {"memory": "128Mi"}},
        }
        here = {
            "cluster": {"dns": {"namespace": "kube-system", "podLabels": {"k8s-app": "kube-dns"}, "ports": [53, 5353]}},
            "broker": {
                "extraContainers": [relay],
                "network": {"extra": [{"cidr": f"{self.node}/32", "ports": [self.ports["aai"]]}]},
            },
        }
        (self.folder / "here.yaml").write_text(yaml.safe_dump(here))

    def _reach_the_broker(self) -> None:
        """Behind the Ingress, in production: here a door to its Service."""
        self.cluster.run(["ip", "route", "replace", SERVICES, "dev", "nodes", "src", self.node])
        self.door("gdi-broker", "gdi", self.users.ports[0])

    def _nodes_values(self) -> None:
        """The file that the document calls complete, with this machine's servers, and a TES of one's own."""
        text = (ROOT / "charts" / "gdi-node" / "ci" / "full.yaml").read_text()
        (self.folder / "node-values.yaml").write_text(text.replace("registry.example.org/", "localhost/"))
        url = {name: f"http://{self.node}:{self.ports[name]}" for name in ("s3", "tes", "sda")}
        here = {
            "cluster": {"dns": {"namespace": "kube-system", "podLabels": {"k8s-app": "kube-dns"}, "ports": [53, 5353]}},
            "gateway": {
                "sda": {"url": url["sda"]},
                "tes": {"url": url["tes"], "flavour": "ga4gh"},
                "persistence": {"size": "1Gi", "storageClass": ""},
                "workspace": {"endpoint": url["s3"], "bucket": "workspace", "releaseBucket": "releases"},
                "internalTls": {"serverSecret": "", "clientSecret": ""},
                "network": {
                    "to": [
                        {"namespace": "gdi", "ports": [8080]},
                        {"cidr": f"{self.node}/32", "ports": [self.ports[n] for n in url]},
                    ]
                },
            },
            "funnel": {"enabled": False},
            "monitoring": {"serviceMonitor": {"enabled": False}},  # no image of Funnel, no Prometheus here
        }
        (self.folder / "node-here.yaml").write_text(yaml.safe_dump(here))
        volume = self._folder("gateway-volume")
        os.chown(volume, USER, USER)
        spec = {
            "capacity": {"storage": "1Gi"},
            "accessModes": ["ReadWriteOnce"],
            "hostPath": {"path": str(volume)},
            "claimRef": {"name": "node-a-gateway", "namespace": "gdi-node-a"},
        }
        self.cluster.apply(
            [{"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": "node-a"}, "spec": spec}]
        )

    def _enrol(self) -> None:
        """The document's entry, with the key that was printed."""
        (entry,) = (
            yaml.safe_load(b.text) for b in blocks(DOCUMENT) if b.heading.startswith("7.") and b.language == "yaml"
        )
        (node,) = entry["enrolment"]["nodes"]
        node["public_key"] = (self.folder / "node-key.jwk").read_text()
        values = yaml.safe_load((self.folder / "values.yaml").read_text())
        values["enrolment"]["nodes"] = [node]
        (self.folder / "values.yaml").write_text(yaml.safe_dump(values))

    # --- what the reader does --------------------------------------------------------------------

    def shell(self, *, inside: bool = True) -> Shell:
        """`inside`: in the cluster's network, where its API server is; Vault is outside of it."""
        if not inside:
            with self.users.bao.as_operator() as operator:
                right = str(operator.headers["x-vault-token"])
            environment = {"VAULT_ADDR": self.users.bao.url, "VAULT_TOKEN": right}
        else:
            environment = {"KUBECONFIG": str(self.cluster.state / "pki" / "admin.conf")}
        environment["PATH"] = f"{self.folder}/bin:{self.cluster.bin}:{Path(sys.executable).parent}:{os.environ['PATH']}"
        return Shell(self.folder, self.commands, {}, environment, tuple(self.cluster.enter("net")) if inside else ())

    def follow(self, section: str) -> None:
        for listed in under(DOCUMENT, section):
            for command in listed:
                if not command.startswith(tuple(NOT_RUN)):
                    self.said[command] = self.shell(inside=not command.startswith("vault ")).run(command)

    @cached_property
    def gateway(self) -> str:
        """The gateway's URL for who stands outside, once its Service is there."""
        return f"http://127.0.0.1:{self.door('node-a-gateway', 'gdi-node-a')}"

    def door(self, service: str, namespace: str, port: int = 0) -> int:
        address = str(self.cluster.get("service", service, namespace)["spec"]["clusterIP"])
        return self.stack.enter_context(Door(self.cluster, address, 8080, port)).port


@contextmanager
def reading(folder: Path) -> Iterator[Reader]:
    for target in ("broker", "node"):
        images.built(target)
    bao = OpenBao(folder / "openbao", PORTS.take(), PORTS.take(), mount="unused")  # the reader makes the broker's own
    bao.folder.mkdir()
    (folder / "reader").mkdir()
    (folder / "reader" / "charts").symlink_to(ROOT / "charts")
    with Cluster() as cluster, running_postgres() as postgres, running(bao), ExitStack() as stack:
        cluster.load(*(images.archive_of(target) for target in ("broker", "node")))
        users = Users(folder / "users", bao, postgres)
        stack.callback(users.stop)
        users.cluster = cluster
        yield Reader(cluster, folder / "reader", users, stack)
