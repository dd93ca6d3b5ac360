"""A local federation on the test cluster: broker and gateways are the charts' pods, Snakemake runs in pods; Airflow and
the nodes' other servers are processes.

All of it lives in the cluster's network, the processes on the loopback there. So whoever makes, starts, asks or stops
one does it within `cluster.network()`: threads and processes made there stay there.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import yaml

from gdi.kit.secret_files import write_private
from gdi.local_federation.federation import Federation
from gdi.local_federation.parts import airflow, core, node, openbao, s3
from gdi.local_federation.supervisor import ServiceSpec, http_ok
from gdi.runner.sandbox import python_folders
from tests.kubernetes import gateways
from tests.kubernetes.cluster import Cluster
from tests.kubernetes.coordinator import NAMESPACE, RELAY, Centre, Store
from tests.kubernetes.gateways import Gateway
from tests.kubernetes.images import name_of
from tests.kubernetes.launcher_kit import CONNECTION, kubeconfig
from tests.kubernetes.parts import API_URL

from tests.support.postgres_kit import Postgres, running_postgres  # isort: skip

# Airflow's processes find the gateways by the names that pods have for them.
HOSTS = 'mount --bind "$0" /etc/hosts && exec "$@"'
POD = {"cpu": "20m", "memory": "512Mi", "disk": "1Gi"}


class ClusterFederation(Federation):
    """`gateway`: how a node's chart is installed; `placement`: who starts Snakemake."""

    gateway: type[Gateway] = Gateway
    placement = "coordinator"

    def __init__(
        self,
        work: Path,
        cluster: Cluster,
        postgres: Postgres,
        *,
        nodes: int = 2,
        pods: dict[str, Any] | None = None,
        **options: Any,
    ) -> None:
        super().__init__(work, nodes=nodes, upkeep=False, placement=self.placement, **options)
        self.cluster, self.postgres = cluster, postgres
        self.layout.gateway_names = {n: gateways.host_of(n) for n in self.layout.nodes}
        self.layout.ports |= {f"{n}/gateway": gateways.PORT for n in self.layout.nodes}
        self.layout.save()
        self.gateways = {n: self.gateway(cluster, self.layout, self.secrets, n) for n in self.layout.nodes}
        self.pods = pods or {"defaults": POD, "start_timeout": 240}
        self.stack = ExitStack()
        self.centre: Centre
        self.identity_file = work / "airflow-identity"
        self.pod_config = work / "pods.yaml"

    def start(self, *, on_change: Callable[[str, str], None] | None = None, timeout: float = 600) -> None:
        layout, secrets, add, ready = self.layout, self.secrets, self.supervisor.add, self.supervisor.wait_ready
        add(openbao.service(layout))
        add(core.aai(layout, secrets))
        for n in layout.nodes:
            add(s3.service(layout, secrets, n))
        self.fill_archives()
        ready(["openbao", "aai"], timeout=timeout)
        started = time.monotonic()
        address = self._install()
        self.seconds["helm install"] = time.monotonic() - started
        airflow.configure(layout, secrets)
        hosts = self.work / "hosts"
        hosts.write_text(
            "127.0.0.1 localhost\n"
            + "".join(f"{self.gateways[n].address} {name}\n" for n, name in layout.gateway_names.items())
        )
        for service in airflow.services(layout, self.airflow_environment()):
            add(
                replace(
                    service, argv=["unshare", "--mount", "sh", "-c", HOSTS, str(hosts), *service.argv], timeout=timeout
                )
            )
        add(
            ServiceSpec(
                "broker", relay(layout.ports["broker"], address, 8080), http_ok(layout.url("broker") + "/readyz")
            )
        )
        for n in layout.nodes:
            add(node.sda(layout, n))
            add(self.tes(n))
        ready(timeout=timeout, on_change=on_change)
        self.seconds["federation started"] = time.monotonic() - started

    def tes(self, name: str) -> ServiceSpec:
        """The node's TES, after its chart was installed."""
        folders = [bind.source for bind in python_folders()]
        return node.tes(
            self.layout,
            self.secrets,
            name,
            folders=folders,
            slots=self.slots,
            maker=self.maker,
            inside=self.gateways[name].inside,
        )

    def store(self) -> Store | None:
        """Where the broker keeps what nodes push."""
        return None

    def _install(self) -> str:
        """Both charts, and what Airflow's processes are given: an identity, the pods' settings, a connection with their
        rights. The broker's address.
        """
        layout, cluster = self.layout, self.cluster
        repository, tag = name_of("snakemake").rsplit(":", 1)
        runs = {
            "image": {"repository": repository, "tag": tag, "pullPolicy": "Never"},
            "pods": self.pods,
            "gateways": [gateways.opening(n, gateways.PORT) for n in layout.nodes],
        }
        enrolment = yaml.safe_load(core.enrolment(layout, self.secrets).read_text())
        self.centre = Centre(
            cluster,
            layout.folder("centre"),
            openbao.server(layout),
            self.postgres,
            self.postgres.database(),
            layout.ports["aai"],
            layout.issuer,
            self.secrets.read("client-token-broker"),
            layout.url("broker"),
            enrolment,
            {"runs": runs},
            [gateways.opening(n) for n in layout.nodes],
            self.store(),
        )
        self.centre.prepare(self.stack)
        address = self.centre.install(self.stack)
        for gateway in self.gateways.values():
            gateway.install(self.stack)
        write_private(self.identity_file, self.centre.airflows_identity(hours=4))
        given = yaml.safe_load(cluster.get("configmap", "gdi-pods", NAMESPACE)["data"]["pods.yaml"])
        self.pod_config.write_text(yaml.safe_dump({**given, "conn_id": CONNECTION}))
        return address

    def airflow_environment(self) -> dict[str, str]:
        token = self.cluster.kubectl("create", "token", "airflow", "-n", NAMESPACE, "--duration=4h").strip()
        path = kubeconfig(self.cluster, self.work / "kubeconfig", API_URL, token)
        extra = {"kube_config_path": str(path), "namespace": "gdi-runs"}
        environment = super().airflow_environment()
        del environment["GDI_PROCESS_HOST_SOCKET"]
        return {
            **environment,
            "GDI_LAUNCHER": "kubernetes",
            "GDI_POD_CONFIG": str(self.pod_config),
            "GDI_IDENTITY_TOKEN_FILE": str(self.identity_file),
            f"AIRFLOW_CONN_{CONNECTION.upper()}": json.dumps({"conn_type": "kubernetes", "extra": extra}),
        }

    @property
    def public_url(self) -> str:
        """The broker's."""
        return self.layout.url("broker")

    def identity(self) -> str:
        """Airflow's."""
        return self.centre.airflows_identity()

    @contextmanager
    def given(self, **changes: Any) -> Iterator[None]:
        """What the operator gives pods is other meanwhile (GDI_POD_CONFIG)."""
        before = self.pod_config.read_text()
        self.pod_config.write_text(yaml.safe_dump({**yaml.safe_load(before), **changes}))
        try:
            yield
        finally:
            self.pod_config.write_text(before)

    def stop(self) -> None:
        super().stop()
        self.stack.close()

    def pods_of(self, run: str) -> list[dict[str, Any]]:
        """The Snakemake pods that there are of a run."""
        found = self.cluster.kubectl("get", "pods", "-n", "gdi-runs", "-l", f"gdi-run={run}", "-o", "json")
        return list(json.loads(found)["items"])


def relay(port: int, address: str, target: int) -> list[str]:
    """The command that leads from the loopback to a Service."""
    return [sys.executable, "-c", RELAY, str(port), address, str(target)]


Made = TypeVar("Made", bound=ClusterFederation)


@contextmanager
def started(kind: type[Made], cluster: Cluster, **options: Any) -> Iterator[Made]:
    """A federation of that kind, up, with its own folder and PostgreSQL. Within it this thread is in the cluster's
    network.
    """
    work = Path(tempfile.mkdtemp(prefix="gdi-t-"))
    try:
        with cluster.network(), running_postgres() as postgres, kind(work, cluster, postgres, **options) as made:
            made.start()
            yield made
    finally:
        _tidy(work)


def _tidy(work: Path) -> None:
    """A federation's folder goes; its logs stay where GDI_KEEP names a folder."""
    if keep := os.environ.get("GDI_KEEP"):
        for part in ("logs", "airflow/logs", "results"):
            if (work / part).exists():
                shutil.copytree(work / part, Path(keep) / work.name / part, dirs_exist_ok=True)
    shutil.rmtree(work, ignore_errors=True)
