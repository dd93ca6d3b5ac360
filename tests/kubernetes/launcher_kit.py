"""What the launcher's tests share: the chart's own namespace and rights for runs, a connection as Airflow's service
account, pods that do what a test says.
"""

from __future__ import annotations

import base64
import json
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml
from airflow.providers.cncf.kubernetes.hooks.kubernetes import KubernetesHook

from gdi.contracts.process_host import StopMode
from gdi.contracts.workflow_files import digest_of
from gdi.kit.secret_files import write_private
from gdi.pods import manifest
from gdi.pods.config import PodConfig
from gdi.pods.model import PodSpec, PodStatus
from gdi_operators.kubernetes.api import Api, AsyncApi
from gdi_operators.kubernetes.cluster_pods import ClusterPods
from gdi_operators.kubernetes.pod_watch import PodWatch
from tests.kubernetes.cluster import ROOT, Cluster, until
from tests.kubernetes.door import Door
from tests.kubernetes.images import name_of
from tests.kubernetes.parts import API

RUNS = "gdi-runs"
CONNECTION = "gdi_test_cluster"
# Stands where the entry point does: says what a pod sees, then does what the run's parameters say.
PROBE = """
import base64, json, os, signal, sys, time
run = json.load(open("/gdi/run.json"))
token = open("/gdi/identity/token").read().split(".")[1]
claims = json.loads(base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)))
from gdi.contracts.workflow_files import digest_of
from pathlib import Path
print(json.dumps({"digest": digest_of(Path("/gdi/workflow")), "aud": claims["aud"],
    "pod": claims["kubernetes.io"]["pod"], "sub": claims["sub"],
    "uid": os.getuid(), "environment": sorted(os.environ),
    "account": os.path.exists("/var/run/secrets/kubernetes.io")}), flush=True)
def ended(*_):
    time.sleep(0.2)
    mark = open("/gdi/pod/annotations").read()
    wish = "cancel" if 'gdi-stop="cancel"' in mark else "hand-over"
    print("asked to", wish, flush=True)
    time.sleep(1)
    os._exit(1 if wish == "cancel" else 75)
signal.signal(signal.SIGTERM, ended)
mode, seconds = run["parameters"]["mode"], run["parameters"].get("seconds", 0)
if mode == "sleep":  # a test may end it earlier
    until = time.monotonic() + seconds
    while time.monotonic() < until and not os.path.exists("/gdi/work/end"): time.sleep(0.1)
elif mode == "exit": sys.exit(run["parameters"]["code"])
elif mode == "memory":
    held = []
    while True: held.append(bytearray(os.urandom(1 << 20)) * 4)
elif mode == "disk":
    with open("/gdi/work/large", "wb") as f:
        for _ in range(run["parameters"]["mb"]): f.write(os.urandom(1 << 20))
    time.sleep(seconds)
elif mode == "write":
    for place in ("/opt/gdi/x", "/gdi/workflow/x", "/gdi/x", "/gdi/identity/x"):
        try: open(place, "w"); print("wrote", place, flush=True)
        except OSError: pass
    open("/gdi/work/x", "w"); open("/tmp/x", "w")
print("done", flush=True)
"""


def rendered(
    cluster: Cluster, chart: str, *arguments: str, release: str = "gdi", namespace: str = "gdi"
) -> list[dict[str, Any]]:
    """The chart's objects, as `helm template` makes them."""
    text = cluster.helm(
        "template",
        release,
        str(ROOT / "charts" / chart),
        "--namespace",
        namespace,
        "--kube-version",
        "1.34.2",
        *arguments,
    )
    return [o for o in yaml.safe_load_all(text) if o]


def airflows_rights(cluster: Cluster) -> None:
    """The namespaces, service accounts and rights for runs, from the chart."""
    cluster.kubectl("create", "namespace", "gdi", check=False)
    values = ("-f", str(ROOT / "charts/gdi/ci/minimal.yaml"))
    objects = [
        o
        for o in rendered(cluster, "gdi", *values)
        if o["kind"] in ("Namespace", "ServiceAccount", "Role", "RoleBinding")
    ]
    for made in objects:
        if made["kind"] != "Namespace":
            made["metadata"].setdefault("namespace", "gdi")
    cluster.apply(sorted(objects, key=lambda o: o["kind"] != "Namespace"))


def kubeconfig(cluster: Cluster, path: Path, server: str, token: str) -> Path:
    """A kubeconfig for who bears `token`, private to its owner."""
    authority = base64.b64encode((cluster.state / "pki" / "ca.crt").read_bytes()).decode()
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "test",
        "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test"}}],
        "clusters": [{"name": "test", "cluster": {"server": server, "certificate-authority-data": authority}}],
        "users": [{"name": "test", "user": {"token": token}}],
    }
    return write_private(path, json.dumps(config))


@contextmanager
def as_airflow(cluster: Cluster, folder: Path, environment: pytest.MonkeyPatch) -> Iterator[Door]:
    """An Airflow connection to the cluster with nothing but the rights of Airflow's service account."""
    token = cluster.kubectl("create", "token", "airflow", "-n", "gdi", "--duration=4h").strip()
    with Door(cluster, API, 6443) as door:
        path = kubeconfig(cluster, folder / "kubeconfig", f"https://127.0.0.1:{door.port}", token)
        extra = {"kube_config_path": str(path), "namespace": RUNS}
        environment.setenv(
            f"AIRFLOW_CONN_{CONNECTION.upper()}", json.dumps({"conn_type": "kubernetes", "extra": extra})
        )
        yield door  # type: ignore[misc]  # a _Relay's __enter__


class ProbeLauncher:
    """What the operator and its trigger do with pods, one verb each, for pods that run PROBE in the broker's image
    (which has Python and gdi.kit)."""

    def __init__(self, config: PodConfig, *, catalogue: Path, broker_url: str) -> None:
        self.config, self.catalogue, self.broker_url = config, catalogue, broker_url
        self._watches: list[PodWatch] = []
        hook = KubernetesHook(conn_id=config.conn_id, kubernetes_conn_id=None)
        self.pods = ClusterPods(Api(hook.core_v1_client, config.namespace), config)
        self.get, self.stop, self.of_attempt = self.pods.get, self.pods.stop, self.pods.of_attempt

    def create(self, spec: PodSpec) -> PodStatus:
        files = manifest.workflow_files(self.catalogue / spec.workflow, spec)
        body = manifest.pod(spec, self.config, files)
        body["spec"]["containers"][0]["command"] = ["python3", "-c", PROBE]
        status = self.pods.status(self.pods.take(body))
        if status.state == "created":
            self.pods.give_files(spec, status.uid, files, self.broker_url)
        self.pods.tidy(spec.name)
        return status

    def start(self, name: str) -> PodStatus:
        return self.pods.let_go(name)

    async def aget(self, name: str) -> PodStatus | None:
        return await self._watch(name).aget(name)

    async def astop(self, name: str, *, mode: StopMode, grace: float) -> None:
        await self._watch(name).astop(name, mode=mode, grace=grace)

    async def alog(self, name: str, since: str, *, ended: bool = False) -> tuple[list[str], str]:
        return await self._watch(name).alog(name, since, ended=ended)

    async def aclose(self) -> None:
        for watch in self._watches:
            await watch.aclose()
        self._watches.clear()

    def _watch(self, name: str) -> PodWatch:
        if not self._watches:
            found = self.get(name)
            uid = "" if found is None else found.uid
            self._watches.append(PodWatch(AsyncApi(self.config.conn_id, self.config.namespace), self.config, uid))
        return self._watches[0]


class Rig:
    """A launcher on the test cluster. `config` changes what the operator allows."""

    def __init__(self, cluster: Cluster, catalogue: Path) -> None:
        self.cluster, self.catalogue = cluster, catalogue
        folder = catalogue / "probe"
        (folder / "scripts").mkdir(parents=True, exist_ok=True)
        (folder / "Snakefile").write_text("rule all:\n    input: []\n")
        (folder / "scripts" / "one.py").write_text("print('ü')\n")
        self.digest = digest_of(folder)

    def launcher(self, **config: Any) -> ProbeLauncher:
        base = {
            "namespace": RUNS,
            "conn_id": CONNECTION,
            "image": name_of("broker"),
            "image_pull_policy": "Never",
            "start_timeout": 60,
            "mark_seconds": 1.5,
            "defaults": {"cpu": "20m", "memory": "128Mi", "disk": "64Mi"},
            "logs": True,
        }
        return ProbeLauncher(
            PodConfig.model_validate({**base, **config}),
            catalogue=self.catalogue,
            broker_url="http://gdi-broker.gdi.svc:8080",
        )

    def spec(self, mode: str, *, generation: int = 1, pod: dict[str, Any] | None = None, **parameters: Any) -> PodSpec:
        run = f"r-{uuid.uuid4().hex[:20]}"
        return PodSpec(
            name=f"{run}-node-a-1-{generation}",
            run=run,
            attempt=1,
            node="node-a",
            workflow="probe",
            digest=self.digest,
            datasets=["DS-1"],
            gateway_url="http://gateway.node-a.svc:8080",
            audience="http://gateway.node-a.svc:8080",
            parameters={"mode": mode, **parameters},
            pod=pod,
        )

    def started(self, launcher: ProbeLauncher, spec: PodSpec) -> PodStatus:
        launcher.create(spec)
        return launcher.start(spec.name)

    def running(self, spec: PodSpec) -> None:
        """Waits until the pod's program runs: it has said its first line."""
        until(
            "the pod runs",
            lambda: "digest" in self.cluster.kubectl("logs", "-n", RUNS, spec.name, check=False),
            120,
            why=lambda: self.story(spec),
        )

    def awaited(
        self,
        launcher: ProbeLauncher,
        spec: PodSpec,
        wanted: Callable[[PodStatus | None], bool],
        seconds: float = 120,
    ) -> PodStatus | None:
        found: list[PodStatus | None] = []

        def look() -> bool:
            found[:] = [launcher.get(spec.name)]
            return wanted(found[0])

        until("the pod is as awaited", look, seconds, every=0.3, why=lambda: f"{found} {self.story(spec)}")
        return found[0]

    def story(self, spec: PodSpec) -> str:
        return self.cluster.kubectl("describe", "pod", "-n", RUNS, spec.name, check=False)[-2500:]
