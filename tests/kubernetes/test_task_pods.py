"""The driver by which the chart's Funnel has its executors made (gdi/funnel/task_pods.py), in the chart's own worker
pod, without Funnel: one command line is what Funnel would call it with. With Funnel: test_funnel.py.
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import string
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote_plus

import pytest
import yaml

from tests.kubernetes import images
from tests.kubernetes.cluster import ROOT, Cluster, ClusterError, until
from tests.kubernetes.gateways import USER
from tests.kubernetes.images import name_of
from tests.kubernetes.pods import pod

NODE, TASKS = "t", "t-tasks"
SECRET = "no task may read this"
KINDS = {"ServiceAccount", "Role", "RoleBinding", "ConfigMap", "NetworkPolicy"}
EVERYWHERE = {"ClusterRole", "ClusterRoleBinding", "ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding"}


@dataclass
class Done:
    """How a worker ended: what its driver gave Funnel."""

    code: int
    out: str
    err: str


@dataclass
class Place:
    """The namespace of tasks as the chart makes it, and workers in it."""

    cluster: Cluster
    folder: Path
    template: str
    count: int = 0

    def begin(self, command: list[str], *, image: str | None = None, stdin: str = "", **environment: str) -> str:
        """A worker that has one executor made, with a writable folder /out; the task's id."""
        self.count += 1
        task = f"task{self.count}"
        root = self.folder / task
        for folder in (root, root / task, root / task / "out", root / task / "tmp"):
            folder.mkdir()
            os.chown(folder, USER, USER)
        given = "".join(f"--env {quote_plus(k)}={quote_plus(v)} " for k, v in environment.items())
        work = quote_plus(f"/opt/funnel/work/{task}/")
        folders = "".join(f"--volume {work}{name}:%2F{name}:rw " for name in ("tmp", "out"))
        line = (
            f"run -i --read-only {given}--name {task}-0 --workdir /tmp {folders}{quote_plus(image or name_of('task'))}"
        )
        # In a shell of its own, as the driver ends its parent where the pod is taken away: Funnel there.
        driver = (
            f"(printf %s {shlex.quote(stdin)} | python3 -P -m gdi.funnel.task_pods {line} {shlex.join(command)}; exit"
            " $?) >/tmp/out 2>/tmp/err; code=$?"
        )
        tell = (
            "python3 -c 'import json, sys; "
            """print(json.dumps([int(sys.argv[1]), open("/tmp/out").read(), open("/tmp/err").read()]))' $code"""
        )
        job = yaml.safe_load(
            self.template.replace("{{.TaskId}}", task)
            .replace("{{.Namespace}}", TASKS)
            .replace("{{.Cpus}}", "0.05")
            .replace("{{.RamGb}}", "0.1")
        )
        spec = job["spec"]["template"]["spec"]
        (worker,) = spec["containers"]
        worker["args"] = [f"{driver}; {tell}".replace("$", "$$")]  # Kubernetes makes one of two
        # What a worker needs for Funnel's own part stays away: no server of this test would answer it.
        del spec["initContainers"]
        worker["volumeMounts"] = [m for m in worker["volumeMounts"] if m["name"] not in ("program", "config")]
        used = {m["name"] for m in worker["volumeMounts"]}
        spec["volumes"] = [v for v in spec["volumes"] if v["name"] in used]
        size = {"storage": "1Gi"}
        claim = {"name": f"funnel-pvc-{task}", "namespace": TASKS}
        volume = {
            "capacity": size,
            "accessModes": ["ReadWriteMany"],
            "hostPath": {"path": str(root)},
            "claimRef": claim,
            "storageClassName": "",
        }
        self.cluster.apply(
            [
                {
                    "apiVersion": "v1",
                    "kind": "PersistentVolume",
                    "metadata": {"name": f"t-{task}", "labels": {"gdi-test": "task"}},
                    "spec": volume,
                },
                {
                    "apiVersion": "v1",
                    "kind": "PersistentVolumeClaim",
                    "metadata": claim,
                    "spec": {
                        "accessModes": ["ReadWriteMany"],
                        "resources": {"requests": size},
                        "volumeName": f"t-{task}",
                        "storageClassName": "",
                    },
                },
                job,
            ]
        )
        return task

    def ended(self, task: str, seconds: float = 120) -> Done:
        until(
            f"{task} ends",
            lambda: self.status(task).get("succeeded") or self.status(task).get("failed"),
            seconds,
            every=0.5,
            why=self.said,
        )
        return Done(
            *json.loads(self.cluster.kubectl("logs", f"job/{task}", "-n", TASKS, "-c", "worker").splitlines()[-1])
        )

    def run(self, command: list[str], **more: Any) -> Done:
        return self.ended(self.begin(command, **more))

    def status(self, task: str) -> dict[str, Any]:
        found: dict[str, Any] = self.cluster.get("job", task, TASKS).get("status", {})
        return found

    def running(self, task: str) -> None:
        def started() -> bool:
            said = self.cluster.kubectl(
                "get",
                f"pod/{task}-0",
                "-n",
                TASKS,
                "-o",
                "jsonpath={.status.containerStatuses[0].started}",
                check=False,
            )
            return said == "true"

        until(f"{task} runs", started, 60, every=0.5, why=self.said)

    def pods(self) -> list[str]:
        return self.cluster.kubectl("get", "pods", "-n", TASKS, "-l", "app=funnel-executor", "-o", "name").split()

    def said(self) -> str:
        return self.cluster.kubectl("describe", "pods", "-n", TASKS, check=False)[-3000:]


@pytest.fixture(scope="module")
def place(cluster: Cluster, run_images: None) -> Iterator[Place]:
    images.built("task")
    cluster.load(images.archive_of("task"))
    repository, tag = name_of("node").rsplit(":", 1)
    values = {
        "funnel": {
            "enabled": True,
            "oidc": {"issuer": "https://login.example.org", "clientId": "t", "audience": "t"},
            "tasks": {"createNamespace": False, "storageClass": "none", "images": {"gdi-task:1": name_of("task")}},
        },
        "gateway": {"image": {"repository": repository, "tag": tag}, "tes": {"url": "", "flavour": "funnel"}},
        "cluster": {"apiServer": [{"cidr": f"{cluster.nodes[0].address}/32", "ports": [6443]}]},
    }
    folder = Path(tempfile.mkdtemp(prefix="gdi-t-"))
    (folder / "values.yaml").write_text(yaml.safe_dump(values))
    chart = ROOT / "charts" / "gdi-node"
    said = cluster.helm(
        "template",
        NODE,
        str(chart),
        "-n",
        NODE,
        "--kube-version",
        "1.34.2",
        "-f",
        str(chart / "ci/minimal.yaml"),
        "-f",
        str(folder / "values.yaml"),
    )
    rendered = [o for o in yaml.safe_load_all(said) if o]
    made = [o for o in rendered if o["kind"] in KINDS and o["metadata"].get("namespace") == TASKS]
    # Of Funnel's own namespace the identity and rights of what runs beside its server.
    beside = [
        o
        for o in rendered
        if o["kind"] in EVERYWHERE or (o["kind"], o["metadata"]["name"]) == ("ServiceAccount", f"{NODE}-funnel")
    ]
    label = {"pod-security.kubernetes.io/enforce": "restricted"}
    cluster.apply(
        [
            {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": label}}
            for name in (NODE, TASKS)
        ]
    )
    cluster.apply(
        [
            *(
                {**o, "metadata": {**o["metadata"], "namespace": NODE}} if o["kind"] == "ServiceAccount" else o
                for o in beside
            ),
            *made,
        ]
    )
    files = {"secret.pem": SECRET, "public.pem": "public"}
    cluster.apply(
        [
            {
                "apiVersion": "v1",
                "kind": "Secret",
                "metadata": {"name": "gdi-node-crypt4gh", "namespace": TASKS},
                "stringData": files,
            }
        ]
    )
    config = next(o["data"]["worker.yaml"] for o in made if o["kind"] == "ConfigMap")
    filled = string.Template(config).substitute(tes_password="''", s3_access="''", s3_secret="''")
    try:
        yield Place(cluster, folder, yaml.safe_load(filled)["Kubernetes"]["Template"])
    finally:
        cluster.kubectl("delete", "namespace", TASKS, NODE, "--timeout=60s", check=False, timeout=70)
        cluster.kubectl("delete", "pv", "-l", "gdi-test=task", "--wait=false", check=False)
        shutil.rmtree(folder, ignore_errors=True)


def test_a_command_has_its_own_words_environment_streams_and_exit_code(place: Place) -> None:
    words = ["a b", "'q'", "$(HOME)", "$HOME", "--volume", "", "$$", "$$(HOME)", "a$", "$é$$$", "$("]
    script = 'cat; printf "%s|" "$@"; echo "$A|$HOME|$(id -u)|$(pwd)"; echo wrong >&2; exit 7'
    done = place.run(["sh", "-c", script, "x", *words], stdin="first\n", A="x --volume /:/host:ro $(HOME) $$ $")
    assert done == Done(
        7,
        "first\n" + "".join(f"{w}|" for w in words) + "x --volume /:/host:ro $(HOME) $$ $|/tmp|10001|/tmp\n",
        "wrong\n",
    )
    assert not place.pods(), "it is gone when its command has ended"


def test_what_is_said_arrives_whole_and_while_it_is_said(place: Place) -> None:
    task = place.begin(["python3", "-u", "-c", "import time; print('x' * 3_000_000); time.sleep(600)"])
    place.running(task)
    worker = place.cluster.kubectl("get", "pods", "-n", TASKS, "-l", f"task-id={task}", "-o", "name").strip()
    look = ["exec", "-n", TASKS, worker, "-c", "worker", "--"]
    until(
        "the worker has it",
        lambda: place.cluster.kubectl(*look, "stat", "-c", "%s", "/tmp/out").strip() == "3000001",
        30,
        every=1,
    )
    place.cluster.kubectl(
        *look, "python3", "-P", "-m", "gdi.funnel.task_pods", "rm", "-f", f"{task}-0", check=False
    )  # it ends with its container
    done = place.ended(task)
    assert done.code == 137 and len(done.out) == 3_000_001 and "stopped" in done.err and not place.pods()


def test_a_task_has_no_token_and_no_way_to_its_workers_secrets(place: Place) -> None:
    """What it leaves as a link is not followed in the container that holds the node's keys."""
    look = f"""
import os, socket
try:
    socket.create_connection(("{place.cluster.nodes[0].address}", 6443), timeout=3)
    print("reached the API server")
except OSError:
    pass
print(os.path.exists("/var/run/secrets"), os.path.exists("/secrets"),
    [k for k in os.environ if "C4GH" in k or k.startswith("GDI_")])
open("/out/real", "w").write("its own")
os.symlink("/out/real", "/out/link")
os.symlink("/secrets/crypt4gh/secret.pem", "/out/key")
os.mkfifo("/out/pipe")
os.remove("/gdi-streams/err"); os.symlink("/secrets/crypt4gh/secret.pem", "/gdi-streams/err")
"""
    task = place.begin(["python3", "-c", look])
    done = place.ended(task)
    assert done.code == 0 and done.out == "False False []\n" and SECRET not in done.err
    assert "2 links or pipes that are no file of this task were removed" in done.err
    left = {f.name: f for f in (place.folder / task / task / "out").iterdir()}
    assert sorted(left) == ["link", "real"] and not left["link"].is_symlink() and left["link"].read_text() == "its own"


def test_an_image_that_cannot_be_had_is_told(place: Place) -> None:
    done = place.run(["true"], image="Not An Image")
    assert done.code == 125 and "InvalidImageName" in done.err and not place.pods()


def test_an_image_runs_by_the_name_that_the_node_has_for_it(place: Place) -> None:
    done = place.run(["echo", "here"], image="gdi-task:1")
    assert done == Done(0, "here\n", "")


def test_a_command_that_takes_more_memory_than_asked_for_is_killed_and_that_is_said(place: Place) -> None:
    done = place.run(["python3", "-c", "x = bytearray(400_000_000)"])
    assert done.code == 137 and "more memory than the task asked for" in done.err


def test_a_full_quota_is_waited_out(place: Place) -> None:
    quota = {
        "apiVersion": "v1",
        "kind": "ResourceQuota",
        "metadata": {"name": "full", "namespace": TASKS},
        "spec": {"hard": {"count/pods": "1"}},
    }
    place.cluster.apply([quota])
    try:
        until(
            "the quota is in force",
            lambda: "hard" in place.cluster.get("resourcequota", "full", TASKS).get("status", {}),
        )
        place.cluster.kubectl("delete", "jobs", "--all", "-n", TASKS)
        until(
            "only the worker counts",
            lambda: not place.cluster.kubectl("get", "pods", "-n", TASKS, "-o", "name").strip(),
            60,
        )
        task = place.begin(["echo", "at last"])
        until("the worker runs", lambda: place.status(task).get("ready"), 60, every=0.5)
        until(
            "its driver asks for the pod", (place.folder / task / task / ".gdi-streams-0" / "err").exists, 30
        )  # made just before
        assert not place.pods() and not place.status(task).get("succeeded")
    finally:
        place.cluster.kubectl("delete", "resourcequota", "full", "-n", TASKS)
    assert place.ended(task).out == "at last\n"


def test_workers_do_not_take_the_places_of_the_commands_that_they_wait_for(place: Place) -> None:
    """With one worker and one command at once, and three tasks."""
    names = {"workers": "Terminating", "executors": "NotTerminating"}
    quotas = [
        {
            "apiVersion": "v1",
            "kind": "ResourceQuota",
            "metadata": {"name": n, "namespace": TASKS},
            "spec": {"hard": {"pods": "1"}, "scopes": [scope]},
        }
        for n, scope in names.items()
    ]
    place.cluster.kubectl("delete", "jobs", "--all", "-n", TASKS)
    until("nothing is left", lambda: not place.cluster.kubectl("get", "pods", "-n", TASKS, "-o", "name").strip(), 60)
    place.cluster.apply(quotas)
    try:
        until(
            "the quotas are in force",
            lambda: all("hard" in place.cluster.get("resourcequota", n, TASKS).get("status", {}) for n in names),
            30,
        )
        tasks = [place.begin(["echo", "done"]) for _ in range(3)]
        until(
            "a command runs or has run",
            lambda: place.pods() or any(place.status(t).get("succeeded") for t in tasks),
            60,
            why=place.said,
        )
        assert [place.ended(task, 240).out for task in tasks] == ["done\n"] * 3
    finally:
        place.cluster.kubectl("delete", "resourcequota", *names, "-n", TASKS)


def test_a_pod_that_is_taken_away_ends_its_worker_and_a_worker_that_ends_takes_its_pods_with_it(place: Place) -> None:
    taken, killed = (place.begin(["sleep", "600"]) for _ in range(2))
    for task in (taken, killed):
        place.running(task)
    place.cluster.kubectl("delete", f"pod/{taken}-0", "-n", TASKS, "--wait=false")
    place.cluster.kubectl("delete", f"job/{killed}", "-n", TASKS)
    done = place.ended(taken)
    assert done.code == 137 and "was taken away: its pod was deleted" in done.err
    until("no executor is left", lambda: not place.pods(), 60, every=1, why=place.said)


def test_funnels_account_makes_and_deletes_no_other_volumes(place: Place) -> None:
    """Its ClusterRole could: the admission policy of the chart stands before it."""
    cluster, account = place.cluster, f"--as=system:serviceaccount:{NODE}:{NODE}-funnel"
    own = yaml.safe_load((ROOT / "charts/gdi-node/files/pv.yaml").read_text().replace("{{.TaskId}}", "t2"))
    other = {**own, "metadata": {"name": "t-others"}}
    host = {
        **own,
        "metadata": {"name": "funnel-pv-t3"},
        "spec": {k: v for k, v in own["spec"].items() if k != "csi"} | {"hostPath": {"path": "/"}},
    }

    def refused(*command: str, stdin: str = "") -> bool:
        try:
            cluster.kubectl(*command, "--dry-run=server", account, stdin=stdin)
        except ClusterError as error:
            assert "that nothing uses" in str(error), error
            return True
        return False

    cluster.apply([own, other])
    try:
        until("the policy is in force", lambda: refused("delete", "pv", "t-others"), 60, every=1)
        for wrong in (host, {**host, "metadata": {"name": "t-host"}}, {**other, "metadata": {"name": "t-more"}}):
            assert refused("create", "-f", "-", stdin=json.dumps(wrong))
        assert not refused("delete", "pv", own["metadata"]["name"])
        assert not refused(
            "create", "-f", "-", stdin=json.dumps({**own, "metadata": {**own["metadata"], "name": "funnel-pv-t4"}})
        )
    finally:
        cluster.kubectl("delete", "pv", "t-others", own["metadata"]["name"], "--wait=false")


def test_volumes_that_nothing_uses_are_deleted_and_no_others(place: Place) -> None:
    """As Funnel's server makes one for each task; by the rights that the chart gives beside it."""
    volume = yaml.safe_load((ROOT / "charts/gdi-node/files/pv.yaml").read_text().replace("{{.TaskId}}", "t1"))
    other = {
        **volume,
        "metadata": {**volume["metadata"], "name": "t-other"},
        "spec": {**volume["spec"], "storageClassName": "in-use"},
    }
    program = ["python3", "-P", "-m", "gdi.funnel.unused_volumes", "1"]
    sweeper = pod("sweeper", "", NODE, "node", serviceAccountName=f"{NODE}-funnel", automountServiceAccountToken=True)
    sweeper["spec"]["containers"][0]["command"] = program
    cluster = place.cluster
    cluster.apply([volume, other, sweeper])
    try:
        until(
            "it is gone",
            lambda: not cluster.kubectl("get", "pv", volume["metadata"]["name"], "-o", "name", check=False),
            60,
            every=1,
        )
        assert cluster.kubectl("get", "pv", "t-other", "-o", "name")
    finally:
        cluster.kubectl("delete", "pv", "t-other", "--wait=false")
        cluster.kubectl("delete", "pod", "sweeper", "-n", NODE, "--wait=false")
