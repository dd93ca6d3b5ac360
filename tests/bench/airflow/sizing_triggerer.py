"""A real triggerer that waits for 20 and then 200 pods, over stand-ins of the broker, the process host and a cluster's
API server.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import uvicorn
import yaml
from fastapi import FastAPI
from starlette.requests import Request

from gdi.broker_client.client import BrokerClient
from gdi.contracts import broker_api as m
from gdi.contracts.process_host import HostedPod
from tests.bench.airflow.report import row
from tests.support.airflow_kit import RealAirflow, RulesWorld, wait_for
from tests.support.cluster_stand_in import StandIn, now
from tests.support.operators_world import TICKET, Served
from tests.support.wire import bind
from tests.support.wires import PROCESS_HOST

NODES, FEW, MANY, SECONDS = 10, 2, 20, 30  # of a run; runs; what CPU time is taken over
DAG = """
from airflow.sdk import DAG
from gdi_operators.operators import SnakemakeOperator
with DAG("sizing", schedule=None) as dag:
    for n in range({nodes}):
        SnakemakeOperator(task_id=f"node-{{n}}", workflow="probe", item={{}})
"""
HERE = Path(__file__).parent


def measure(work: Path) -> None:
    for launcher in ("process", "kubernetes"):
        (work / launcher).mkdir()
        _of(work / launcher, launcher)


def _of(work: Path, launcher: str) -> None:
    world = RulesWorld(work, nodes=1)
    cluster = _Cluster(work)
    airflow = None
    try:
        (work / "dags").mkdir()
        (work / "dags" / "sizing.py").write_text(DAG.format(nodes=NODES))
        (work / "airflow").mkdir()
        airflow = RealAirflow(
            work / "airflow", {**world.environment, **cluster.environment, "GDI_LAUNCHER": launcher}, dags=work / "dags"
        )
        _run(airflow, "-m", "airflow", "dags", "reserialize")
        names = _runs(world, MANY)
        _defer(airflow, cluster, dict(list(names.items())[:FEW]))
        airflow.launch("triggerer")
        few = _figures(airflow, cluster, FEW * NODES)
        _defer(airflow, cluster, dict(list(names.items())[FEW:]))
        many = _figures(airflow, cluster, MANY * NODES)
        more = (MANY - FEW) * NODES
        row(f"triggerer_memory_of_{FEW * NODES}_producers_{launcher}", few[0] / 1e6, "MB")
        row(f"triggerer_memory_of_{MANY * NODES}_producers_{launcher}", many[0] / 1e6, "MB")
        row(f"triggerer_memory_per_producer_{launcher}", (many[0] - few[0]) / more / 1e6, "MB")
        row(f"triggerer_cpu_of_{FEW * NODES}_producers_{launcher}", few[1], "cores")
        row(f"triggerer_cpu_per_producer_{launcher}", 1000 * (many[1] - few[1]) / more, "ms/s")
    finally:
        if airflow is not None:
            airflow.close()
        cluster.close()
        world.close()


class _Cluster:
    """Both stand-ins: every pod that is asked for runs."""

    def __init__(self, work: Path) -> None:
        self.asked: set[str] = set()
        self.cluster = StandIn()
        app = self.cluster.app()

        @app.middleware("http")
        async def seen(request: Request, call_next: Any) -> Any:
            self.asked.add(request.url.path.rsplit("/pods/", 1)[-1])
            return await call_next(request)

        self.served = Served(app)
        self.host = _Host(work / "host.sock", self.asked)
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "x",
            "contexts": [{"name": "x", "context": {"cluster": "x", "user": "x"}}],
            "clusters": [{"name": "x", "cluster": {"server": self.served.url}}],
            "users": [{"name": "x", "user": {}}],
        }
        (work / "kubeconfig").write_text(json.dumps(config))
        (work / "pods.yaml").write_text(yaml.safe_dump({"conn_id": "the_cluster", "image": "gdi-snakemake:1"}))
        connection = {"conn_type": "kubernetes", "extra": {"kube_config_path": str(work / "kubeconfig")}}
        self.environment = {
            "AIRFLOW_CONN_THE_CLUSTER": json.dumps(connection),
            "GDI_POD_CONFIG": str(work / "pods.yaml"),
            "GDI_PROCESS_HOST_SOCKET": str(work / "host.sock"),
        }

    def run(self, name: str) -> None:
        padding = {"kubectl.kubernetes.io/as-large-as-a-real-one": "x" * 6000}
        metadata = {
            "name": name,
            "uid": f"uid-of-{name}",
            "creationTimestamp": now(),
            "labels": {},
            "annotations": padding,
        }
        self.cluster.pods[name] = {"metadata": metadata, "spec": {"containers": [{"name": "snakemake"}]}, "status": {}}
        self.cluster.run(name)

    def close(self) -> None:
        self.served.stop()
        self.host.stop()


class _Host(Served):
    def __init__(self, socket: Path, asked: set[str]) -> None:
        self.socket = socket
        app = bind(FastAPI(), PROCESS_HOST)

        @app.get("/pods/{name}")
        async def read(name: str) -> HostedPod:
            asked.add(name)
            part = {"run": "r-" + "0" * 20, "attempt": 1, "node": "node-a", "created_at": 0}
            return HostedPod(name=name, uid=f"uid-of-{name}", state="running", **part)

        super().__init__(app)

    def start(self) -> None:
        import threading

        self._server = uvicorn.Server(uvicorn.Config(self.app, uds=str(self.socket), log_level="error", lifespan="off"))
        self._thread = threading.Thread(target=self._server.run, daemon=True)
        self._thread.start()
        wait_for("the process host's stand-in", lambda: self._server.started, timeout=30)


def _runs(world: RulesWorld, count: int) -> dict[str, str]:
    """Runs open at the broker, each of ten nodes: the broker's ids by the DAG runs' names."""
    found = {}
    with BrokerClient(world.broker.served.url, lambda: "identity") as client:
        for n in range(count):
            asked = {
                "dag_id": "sizing",
                "dag_run_id": f"run-{n}",
                "attempt": 1,
                "workflow": "probe",
                "digest": "sha256:" + "0" * 64,
                "ticket": TICKET,
            }
            found[f"run-{n}"] = client.admit(m.AdmitRequest(**asked, parameters={"datasets": ["DS-A"]})).id
    world.broker.nodes = [SimpleNamespace(name=f"node-{n}") for n in range(NODES)]  # type: ignore[misc]
    return found


def _defer(airflow: RealAirflow, cluster: _Cluster, runs: dict[str, str]) -> None:
    wanted: dict[str, list[dict[str, Any]]] = {}
    for name, run in runs.items():
        for n in range(NODES):
            pod = f"{run}-node-{n}-1-1"
            cluster.run(pod)
            wanted.setdefault(name, []).append(
                {"run": run, "attempt": 1, "node": f"node-{n}", "pod": pod, "state": {"attempt": 1, "generation": 1}}
            )
    file = airflow.folder / "wanted.json"
    file.write_text(json.dumps(wanted))
    _run(airflow, str(HERE / "deferred.py"), str(file))


def _run(airflow: RealAirflow, *command: str) -> None:
    done = subprocess.run(
        [sys.executable, *command],
        env=airflow.environment,
        cwd=airflow.folder,
        capture_output=True,
        text=True,
        timeout=600,
    )
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} failed:\n{(done.stdout + done.stderr)[-3000:]}")


def _figures(airflow: RealAirflow, cluster: _Cluster, pods: int) -> tuple[float, float]:
    """Bytes that the triggerer's processes hold for themselves, and CPU seconds a second, when it asks for that many
    pods.
    """
    wait_for(
        f"{pods} pods asked for",
        lambda: len([name for name in cluster.asked if not name.endswith("/log")]) >= pods,
        timeout=600,
        every=1,
    )
    time.sleep(SECONDS / 2)  # the start is behind all of them
    cpu, at = _cpu(airflow), time.monotonic()
    time.sleep(SECONDS)  # the figure is a rate over this time
    rate = (_cpu(airflow) - cpu) / (time.monotonic() - at)
    return float(sum(p.memory_full_info().uss for p in airflow.tree("triggerer"))), rate


def _cpu(airflow: RealAirflow) -> float:
    return float(sum(sum(p.cpu_times()[:2]) for p in airflow.tree("triggerer")))
