"""A world for SnakemakePodOperator on the test cluster: pods are real, with no right but those that the chart gives
Airflow; broker and gateways are the operators' small ones. What runs in a pod is PROBE, in an image whose entry point
it is.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
import yaml
from airflow.sdk.exceptions import TaskDeferred

from gdi.contracts.ids import make_run_id
from gdi_operators.operators import AdmitRunOperator
from gdi_operators.operators.snakemake_pod import SnakemakePodOperator
from tests.kubernetes import images
from tests.kubernetes.cluster import Cluster, until
from tests.kubernetes.launcher_kit import CONNECTION, PROBE, RUNS
from tests.support.operators_flow import deferred, event_of
from tests.support.operators_world import WORKFLOW, World

IMAGE = "localhost/gdi-probe:1"
DOCKERFILE = (
    f"FROM {images.name_of('broker')}\nCOPY snakemake_tes_auth /probe/snakemake_tes_auth\nENV PYTHONPATH=/probe\n"
)


def probe_image(cluster: Cluster, folder: Path) -> None:
    """IMAGE on every node: the broker's, with PROBE where Snakemake pods begin. The broker's is on the nodes."""
    place = folder / "snakemake_tes_auth" / "pod"
    place.mkdir(parents=True)
    for empty in (place.parent, place):
        (empty / "__init__.py").touch()
    (place / "__main__.py").write_text(PROBE)
    for path in (folder, *folder.rglob("*")):  # whoever runs in the pod reads it
        path.chmod(0o755 if path.is_dir() else 0o644)
    (folder / "Dockerfile").write_text(DOCKERFILE)
    images.derived(IMAGE, folder, images.name_of("broker"), folder / "probe.tar")
    cluster.load(folder / "probe.tar")


def workflow(folder: Path) -> None:
    """The world's workflow, with PROBE's parameters."""
    more: dict[str, Any] = {"code": {"type": "integer", "title": "Exit code", "default": 0}}
    written: dict[str, Any] = dict(WORKFLOW)
    written["parameters"] = {**written["parameters"], **more}
    (folder / "workflows" / "probe" / "workflow.yaml").write_text(yaml.safe_dump(written))


def allowed(path: Path, **changes: Any) -> Path:
    """Writes what the operator of the installation gives pods (GDI_POD_CONFIG)."""
    base = {
        "namespace": RUNS,
        "conn_id": CONNECTION,
        "image": IMAGE,
        "image_pull_policy": "Never",
        "broker_url": "http://gdi-broker.gdi.svc:8080",
        "start_timeout": 120,
        "defaults": {"cpu": "20m", "memory": "128Mi", "disk": "64Mi"},
        "logs": True,
    }
    path.write_text(yaml.safe_dump({**base, **changes}))
    return path


class PodWorld(World):
    """`dag_run` is the id of the DAG run that the next context is of: each test has its own, and so its own pods."""

    def __init__(self, folder: Path, cluster: Cluster, dag_run: str) -> None:
        super().__init__(folder)
        workflow(folder)
        self.cluster, self.dag_run = cluster, dag_run
        self.environment |= {
            "GDI_LAUNCHER": "kubernetes",
            "GDI_POD_CONFIG": str(allowed(folder / "pods.yaml")),
        }
        del self.environment["GDI_PROCESS_HOST_SOCKET"]

    @property
    def run(self) -> str:
        return make_run_id("probe", self.dag_run)

    def context(self, **more: Any) -> dict[str, Any]:
        made = super().context(**more)
        made["dag_run"].run_id = made["ti"].run_id = made["run_id"] = self.dag_run
        return made

    def name(self, generation: int, node: str = "node-a", attempt: int = 1) -> str:
        return f"{self.run}-{node}-{attempt}-{generation}"

    # --- its pods ----------------------------------------------------------------------------------

    def pod(self, name: str) -> dict[str, Any]:
        """{} where there is none."""
        return self.cluster.get("pod", name, RUNS)

    def uid(self, name: str) -> str:
        return str(self.pod(name)["metadata"]["uid"])

    def names(self) -> list[str]:
        """The pods that there are of the run."""
        found = self.cluster.kubectl("get", "pods", "-n", RUNS, "-l", f"gdi-run={self.run}", "-o", "name")
        return sorted(line.removeprefix("pod/") for line in found.split())

    def made(self) -> list[str]:
        """The pods that the broker ever heard of, by name: each is registered before it is made."""
        return sorted({name for name, _ in self.broker.workloads if name.startswith(self.run)})

    def pinned(self, name: str) -> set[str]:
        return {uid for pod, uid in self.broker.workloads if pod == name and uid}

    def log(self, name: str) -> str:
        return self.cluster.kubectl("logs", "-n", RUNS, name, check=False)

    def running(self, name: str) -> None:
        """Waits until the pod's program runs: it has said its first line."""
        until(f"{name} runs", lambda: "digest" in self.log(name), 90, why=lambda: self.story(name))

    def end(self, name: str) -> None:
        """A pod of mode `sleep` succeeds."""
        self.cluster.kubectl("exec", "-n", RUNS, name, "--", "python3", "-c", "open('/gdi/work/end', 'w')")

    def ended(self, name: str) -> None:
        until(
            f"{name} ends",
            lambda: self.pod(name)["status"].get("phase") in ("Succeeded", "Failed"),
            90,
            why=lambda: self.story(name),
        )

    def delete(self, name: str, *options: str) -> None:
        self.cluster.kubectl("delete", "pod", "-n", RUNS, name, *options, timeout=90)

    def story(self, name: str) -> str:
        return self.cluster.kubectl("describe", "pod", "-n", RUNS, name, check=False)[-2500:]

    # --- an operator's steps -----------------------------------------------------------------------

    def admit(self, **parameters: Any) -> dict[str, Any]:
        """The first node's part of an admitted run."""
        self.parameters = parameters
        return AdmitRunOperator(task_id="admit", workflow="probe").execute(self.context(**parameters))[0]

    def execute(self, operator: SnakemakePodOperator, **tries: Any) -> TaskDeferred:
        return deferred(lambda: operator.execute(self.context(**tries, **self.parameters)))

    def resume(
        self, operator: SnakemakePodOperator, event: dict[str, Any] | TaskDeferred
    ) -> dict[str, Any] | TaskDeferred:
        """The re-entry with an event, or with that of a trigger that is run for it."""
        event = event_of(event) if isinstance(event, TaskDeferred) else event
        try:
            return operator.trigger_reentry(self.context(**self.parameters), json.loads(json.dumps(event)))
        except TaskDeferred as again:
            return again


def analyse(item: dict[str, Any], **more: Any) -> SnakemakePodOperator:
    return SnakemakePodOperator(task_id="analyse", workflow="probe", item=item, poll=0.3, grace=20, **more)


def environment(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in world.environment.items():
        monkeypatch.setenv(name, value)


def airflow_environment() -> dict[str, str]:
    """The connections that as_airflow made, for Airflow's own processes."""
    return {name: value for name, value in os.environ.items() if name.startswith("AIRFLOW_CONN_")}
