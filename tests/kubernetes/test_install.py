"""docs/install.md as it is written, from an empty cluster to the first admitted run: each command is run here, or named below with the reason why not.

The broker and the gateway are pods of the Dockerfile's images. LS AAI, REMS, PostgreSQL, OpenBao, S3, the TES and the archive are servers of this machine,
as a centre's own servers are outside of its cluster.
"""

from __future__ import annotations

import json
import os
import secrets
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from broker_client import models as m
from gdi_common.problem import ProblemError
from local_federation.openbao import OpenBao, running
from tests.kubernetes import images
from tests.kubernetes.cluster import ROOT, Cluster, until
from tests.kubernetes.coordinator import OUTSIDE, RELAY, outside
from tests.kubernetes.door import Door, Hatch
from tests.kubernetes.parts import API, SERVICES

from broker_kit import DATASETS, PORTS  # isort: skip
from gateway_world import S3, FakeBroker, FakeSda, FakeTes  # isort: skip
from postgres_kit import PostgresWorld, running_postgres  # isort: skip
from runbook import Shell, blocks, under  # isort: skip

pytestmark = pytest.mark.timeout(900)
DOCUMENT = "install.md"
SECTIONS = list(dict.fromkeys(b.heading for b in blocks(DOCUMENT) if b.language == "sh"))
# What is not run, and what checks it instead.
NOT_RUN = {
    "for target in airflow broker node snakemake; do": "no registry: tests/kubernetes/images.py builds the same targets of the same Dockerfile",
    "helm repo add apache-airflow ": "no internet: the chart cannot be had",
    "helm install airflow apache-airflow/airflow ": "no internet; test_charts.py checks its values file against the chart's documented keys",
}
PROGRAMS = ("kubectl ", "helm ", "vault ", "docker run ", "crypt4gh-keygen ", "for namespace in ")
GATEWAY = f"env PYTHONPATH={ROOT} {sys.executable} -m node_gateway.main"  # what the node's image starts
USER = 10001  # of the images: a volume of this machine is not handed to it by Kubernetes
SECRET_FILES = (
    "airflow-database-url", "airflow-redis-url", "airflow-fernet-key", "airflow-api-secret", "airflow-jwt-secret", "tes-password", "tes-client-secret",
)  # fmt: skip


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
        self.node, self.s3 = node, S3(self._folder("s3"))
        stack.callback(self.s3.stop)
        (self._folder("bin") / "vault").symlink_to(Path(sys.executable).parent / "bao")  # OpenBao's program has Vault's commands
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
            "kubernetes_host=https://kubernetes.default.svc": f"kubernetes_host=https://127.0.0.1:{self.api} kubernetes_ca_cert=@{cluster.state}/pki/ca.crt "
            "token_reviewer_jwt=@reviewer-token disable_local_ca_jwt=true",
            'docker run --rm -v "$PWD:/keys" --user "$(id -u)" registry.example.org/gdi-node:0.1.0 init-key /keys/': f"{GATEWAY} init-key ",
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
            "database: [{namespace: postgres, ports: [5432]}]": f"database: [{{cidr: {node}/32, ports: [{self.ports['postgres']}]}}]",
            "vault: [{cidr: 192.0.2.7/32, ports: [443]}]": f"vault: [{{cidr: {node}/32, ports: [{self.ports['vault']}]}}]",
        }

    def _folder(self, name: str) -> Path:
        made = self.folder / name
        made.mkdir()
        return made

    # --- what is there before each section ---

    def before(self, section: str) -> None:
        steps: dict[str, Callable[[], None]] = {
            "2.": self._servers, "3.": self._files, "4.": self._values, "5.": self._reach_the_broker, "6.": self._nodes_values, "7.": self._enrol,
        }  # fmt: skip
        steps.get(section.split(" ")[0], lambda: None)()

    def _servers(self) -> None:
        """PostgreSQL and Vault by the names that pods have for them, and the account by which Vault asks the cluster about tokens."""
        self.cluster.kubectl("create", "namespace", OUTSIDE)
        reviews = {
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding", "metadata": {"name": "vault-reviews-tokens"},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "system:auth-delegator"},
            "subjects": [{"kind": "ServiceAccount", "name": "vault", "namespace": OUTSIDE}],
        }  # fmt: skip
        account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "vault", "namespace": OUTSIDE}}
        named = [o for name, port in (("vault", 8200), ("postgres", 5432)) for o in outside(name, port, self.node, self.ports[name])]
        self.cluster.apply([account, reviews, *named])
        (self.folder / "reviewer-token").write_text(self.cluster.kubectl("create", "token", "vault", "-n", OUTSIDE, "--duration=2h").strip())

    def _files(self) -> None:
        """The secrets that the document takes from files."""
        given = {name: secrets.token_urlsafe(24) for name in SECRET_FILES}
        given |= {"broker-database-password": self.users.postgres.password, "broker-client-secret": self.users.secrets["broker"]}
        given["s3-credentials.json"] = json.dumps({"access_key": self.s3.access, "secret_key": self.s3.secret})
        for name, content in given.items():
            (self.folder / name).write_text(content)

    def _values(self) -> None:
        """The document's own values, which the chart takes as they stand; and what only this machine's stand-ins need."""
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
            "name": "login", "image": images.name_of("broker"), "command": ["python3", "-c", RELAY, *arguments],
            "securityContext": {"allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]}},
            "resources": {"requests": {"cpu": "10m", "memory": "32Mi"}, "limits": {"memory": "128Mi"}},
        }  # fmt: skip
        here = {
            "cluster": {"dns": {"namespace": "kube-system", "podLabels": {"k8s-app": "kube-dns"}, "ports": [53, 5353]}},
            "broker": {"extraContainers": [relay], "network": {"extra": [{"cidr": f"{self.node}/32", "ports": [self.ports["aai"]]}]}},
        }  # fmt: skip
        (self.folder / "here.yaml").write_text(yaml.safe_dump(here))

    def _reach_the_broker(self) -> None:
        """Behind the Ingress, in production: here a door to its Service."""
        self.cluster.run(["ip", "route", "replace", SERVICES, "dev", "nodes", "src", self.node])
        self.door("gdi-broker", "gdi", self.users.ports[0])

    def _nodes_values(self) -> None:
        """The file that the document calls complete, with this machine's servers, and a TES of one's own."""
        (self.folder / "node-values.yaml").write_text((ROOT / "charts" / "gdi-node" / "ci" / "full.yaml").read_text())
        url = {name: f"http://{self.node}:{self.ports[name]}" for name in ("s3", "tes", "sda")}
        here = {
            "cluster": {"dns": {"namespace": "kube-system", "podLabels": {"k8s-app": "kube-dns"}, "ports": [53, 5353]}},
            "gateway": {
                "sda": {"url": url["sda"]}, "tes": {"url": url["tes"], "flavour": "ga4gh"}, "persistence": {"size": "1Gi", "storageClass": ""},
                "workspace": {"endpoint": url["s3"], "bucket": "workspace", "releaseBucket": "releases"},
                "internalTls": {"serverSecret": "", "clientSecret": ""},
                "network": {"to": [{"namespace": "gdi", "ports": [8080]}, {"cidr": f"{self.node}/32", "ports": [self.ports[n] for n in url]}]},
            },
            "funnel": {"enabled": False}, "monitoring": {"serviceMonitor": {"enabled": False}},  # no image of Funnel, no Prometheus here
        }  # fmt: skip
        (self.folder / "node-here.yaml").write_text(yaml.safe_dump(here))
        volume = self._folder("gateway-volume")
        os.chown(volume, USER, USER)
        spec = {
            "capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce"], "hostPath": {"path": str(volume)},
            "claimRef": {"name": "node-a-gateway", "namespace": "gdi-node-a"},
        }  # fmt: skip
        self.cluster.apply([{"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": "node-a"}, "spec": spec}])

    def _enrol(self) -> None:
        """The document's entry, with the key that was printed."""
        (entry,) = (yaml.safe_load(b.text) for b in blocks(DOCUMENT) if b.heading.startswith("7.") and b.language == "yaml")
        (node,) = entry["enrolment"]["nodes"]
        node["public_key"] = (self.folder / "node-key.jwk").read_text()
        values = yaml.safe_load((self.folder / "values.yaml").read_text())
        values["enrolment"]["nodes"] = [node]
        (self.folder / "values.yaml").write_text(yaml.safe_dump(values))

    # --- what the reader does ---

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

    def door(self, service: str, namespace: str, port: int = 0) -> int:
        address = str(self.cluster.get("service", service, namespace)["spec"]["clusterIP"])
        return self.stack.enter_context(Door(self.cluster, address, 8080, port)).port


@contextmanager
def _reader(folder: Path) -> Iterator[Reader]:
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


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Reader]:
    """In a cluster of its own: an empty one."""
    with _reader(tmp_path_factory.mktemp("install")) as made:
        yield made


def test_every_command_of_the_document_is_known_here() -> None:
    listed = [c for section in SECTIONS for block in under(DOCUMENT, section) for c in block]
    assert [c for c in listed if not c.startswith((*PROGRAMS, *NOT_RUN))] == []
    assert [n for n in NOT_RUN if not any(c.startswith(n) for c in listed)] == []


@pytest.mark.parametrize("section", SECTIONS)
def test_the_commands_of_each_section_succeed_in_their_order(reader: Reader, section: str) -> None:
    reader.before(section)
    reader.follow(section)
    if section.startswith("4."):
        assert next(said for command, said in reader.said.items() if "/readyz" in command) == '{"status":"ok"}'


def test_the_first_run_is_admitted_at_the_node_that_was_enrolled(reader: Reader) -> None:
    users, dataset = reader.users, DATASETS["node-a"]
    parameters = {"datasets": [dataset], "regions": 1}

    def admitted() -> m.Run | None:
        """The broker reads the enrolment again by itself."""
        try:
            return users.admit(users.ticket(user, grant.id, parameters), parameters=parameters)
        except ProblemError as error:
            assert error.slug == "access-denied" and "no enrolled node" in str(error), error
            return None

    with users.user() as user:
        grant = users.grant(user, datasets=[dataset])
        run = until("a run is admitted", admitted, 120, every=3)
    assert run is not None
    (part,) = run.plan
    assert (part.node, part.datasets, part.gateway_url) == ("node-a", [dataset], "https://node-a.example.org")
    with users.airflow() as airflow:
        token = airflow.token(run.id, m.TokenRequest(audience=part.audience)).token
    gateway = f"http://127.0.0.1:{reader.door('node-a-gateway', 'gdi-node-a')}/releases/{run.id}/counts"
    assert httpx.get(gateway, trust_env=False).status_code == 401
    answer = httpx.get(gateway, headers={"Authorization": f"Bearer {token}"}, trust_env=False, timeout=60)
    assert answer.status_code == 404, "the gateway has asked the broker, which knows both the run and the gateway: there is no release yet"


COUNT = "import sqlite3; print(sqlite3.connect('/var/lib/gdi/gateway.db').execute('SELECT count(*) FROM audit').fetchone()[0])"


def test_the_gateways_backup_is_taken_and_restored_on_pods_by_the_commands_of_the_operators_document(reader: Reader) -> None:
    """The rest of that section: tests/system/test_backup.py."""
    save, _, restore = under("operate.md", "Backup and restore")
    shell = reader.shell()

    def entries() -> int:
        return int(reader.cluster.kubectl("exec", "-n", "gdi-node-a", "deploy/node-a-gateway", "--", "python3", "-c", COUNT))

    before = entries()
    assert before > 0
    shell.run_all([c for c in save if not c.startswith(("pg_dump ", "vault "))])
    port = reader.door("node-a-gateway", "gdi-node-a")
    assert httpx.get(f"http://127.0.0.1:{port}/releases/r-{'0' * 20}/counts", trust_env=False).status_code == 401
    assert entries() == before + 1, "what happened after the backup"
    shell.run_all(restore)
    reader.cluster.rollout("deployment/node-a-gateway", "gdi-node-a", 90)
    assert entries() == before
