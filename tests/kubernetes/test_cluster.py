"""The test cluster is a real Kubernetes: what the other tests here rely on."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import httpx
import psutil
import pytest

from tests.kubernetes.cgroups import hierarchies
from tests.kubernetes.cluster import PREFIX, Cluster, ClusterError, sweep, until
from tests.kubernetes.parts import API
from tests.kubernetes.pods import finished, pod, serve, stand_in

ROOT = Path(__file__).resolve().parents[2]
# kube-proxy learns of a service's endpoints a moment after the apiserver, and refuses connections until then.
ASK = """
import time, urllib.error, urllib.request
until = time.monotonic() + 20
while True:
    try:
        print(urllib.request.urlopen("http://%s.default.svc/", timeout=10).status)
        break
    except urllib.error.URLError:
        if time.monotonic() > until:
            raise
        time.sleep(0.2)
"""


@pytest.mark.usefixtures("broker_image")
def test_a_pod_of_our_own_image_finds_a_service_by_its_name(cluster: Cluster) -> None:
    cluster.apply(serve("web"))
    cluster.kubectl("wait", "--for=condition=Ready", "pod/web", "--timeout=60s", timeout=70)
    cluster.apply([pod("ask", ASK % "web")])
    assert finished(cluster, "ask").strip() == "200"


@pytest.mark.usefixtures("broker_image")
def test_a_projected_token_names_its_pod_and_its_audience(cluster: Cluster) -> None:
    source = {"serviceAccountToken": {"audience": "token-broker", "expirationSeconds": 600, "path": "token"}}
    show = (
        "import base64, json; part = open('/gdi/identity/token').read().split('.')[1];"
        " print(base64.urlsafe_b64decode(part + '=' * (-len(part) % 4)).decode())"
    )
    made = pod("identity", show, volumes=[{"name": "identity", "projected": {"sources": [source]}}])
    made["spec"]["containers"][0]["volumeMounts"] = [
        {"name": "identity", "mountPath": "/gdi/identity", "readOnly": True}
    ]
    cluster.apply([made])
    claims = json.loads(finished(cluster, "identity"))
    assert claims["aud"] == ["token-broker"]
    assert claims["kubernetes.io"]["pod"] == {
        "name": "identity",
        "uid": cluster.get("pod", "identity")["metadata"]["uid"],
    }


def test_what_is_not_known_in_a_manifest_is_refused(cluster: Cluster) -> None:
    wrong = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "wrong", "namespace": "default"}, "dtaa": {}}
    with pytest.raises(ClusterError, match='unknown field "dtaa"'):
        cluster.apply([wrong])


def test_an_absent_image_is_told_at_once(cluster: Cluster) -> None:
    made = pod("absent", "")
    made["spec"]["containers"][0].update(image="registry.invalid/absent:1", imagePullPolicy="IfNotPresent")
    cluster.apply([made])
    until("the reason shows", lambda: "ErrImagePull" in cluster.kubectl("get", "pod", "absent", "-o", "json"), 120)
    cluster.kubectl("delete", "pod", "absent", "--wait=false")


@pytest.mark.usefixtures("broker_image")
def test_a_pod_reaches_what_a_test_runs_beside_the_cluster(cluster: Cluster, tmp_path: Path) -> None:
    with (tmp_path / "log").open("w") as log:
        server = cluster.spawn(
            [sys.executable, "-m", "http.server", "--bind", API, "18080", "--directory", str(tmp_path)], log
        )
    try:
        cluster.apply(stand_in("beside", 18080))
        with cluster.network():  # the test itself reaches what pods reach
            until("the server answers", lambda: _status(f"http://{API}:18080/"), 120)
        cluster.apply([pod("ask-beside", ASK % "beside")])
        assert finished(cluster, "ask-beside").strip() == "200"
    finally:
        server.kill()
        server.wait()


def test_the_apiserver_comes_back_as_it_was(cluster: Cluster) -> None:
    cluster.apply(
        [
            {
                "apiVersion": "v1",
                "kind": "ConfigMap",
                "metadata": {"name": "kept", "namespace": "default"},
                "data": {"a": "b"},
            }
        ]
    )
    with cluster.without("kube-apiserver"):
        assert not cluster.ready()
    assert cluster.get("configmap", "kept")["data"] == {"a": "b"}


def test_a_killed_test_leaves_no_process_mount_or_group() -> None:
    program = (
        "import time; from tests.kubernetes.cluster import Cluster; c = Cluster(); c.__enter__(); print(c.state, c.pid,"
        " flush=True); time.sleep(600)"
    )
    holder = subprocess.Popen([sys.executable, "-c", program], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None
    state, pid = holder.stdout.readline().split()
    holder.kill()
    holder.wait()
    until("the namespaces are gone", lambda: not _lives(pid), 120)
    processes = [p for p in Path("/proc").glob("[0-9]*/cmdline") if state.encode() in _read(p)]
    assert not processes
    assert state not in Path("/proc/self/mounts").read_text()
    sweep()
    assert not Path(state).exists()
    assert not [m for m, _ in hierarchies() if (m / Path(state).name).exists()]
    assert Path(state).name.startswith(PREFIX)


def _lives(pid: str) -> bool:
    """A zombie is no life: it waits for whoever adopted it to look."""
    try:
        return psutil.Process(int(pid)).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""


def _status(url: str) -> int:
    try:
        return httpx.get(url, trust_env=False).status_code
    except httpx.HTTPError:
        return 0
