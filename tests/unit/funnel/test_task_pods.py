"""Funnel's driver for Kubernetes (gdi/funnel/task_pods.py) against an API server of a few lines: the manifest, and the
endings a test cluster has no way to give. With a cluster: tests/kubernetes/test_task_pods.py.
"""

from __future__ import annotations

import io
import json
import os
import re
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gdi.funnel import cluster as cluster_module
from gdi.funnel import task_pods
from gdi.funnel.cluster import Cluster, ClusterError, Json
from gdi.funnel.container_line import Line
from gdi.funnel.task_pods import Around, PlatformError, TakenAwayError
from tests.support.clock import Clock

NAME = "task1-0"
FULL = ClusterError(
    'POST pods: the API server answers 403: pods "task1-0" is forbidden: exceeded quota: tasks', 403, "Forbidden"
)
RUNNING = {"phase": "Running", "containerStatuses": [{"state": {"running": {}}}]}
ENDED = {"phase": "Failed", "containerStatuses": [{"state": {"terminated": {"exitCode": 7, "reason": "Error"}}}]}
UNSCHEDULED = {
    "phase": "Pending",
    "conditions": [{"type": "PodScheduled", "status": "False", "message": "0/3 machines: Insufficient cpu"}],
}


class Server(Cluster):
    """One pod's API server. `creates` and `looks`: what it answers, one after the other, the last for ever."""

    def __init__(
        self, clock: Clock, *, creates: list[ClusterError | None], looks: list[Json | ClusterError | None]
    ) -> None:
        self.clock, self.creates, self.looks = clock, creates, looks
        self.tries: list[float] = []
        self.deleted: list[int] = []
        self.made: Json = {}

    def create(self, path: str, body: Json) -> Json:
        self.tries.append(self.clock.now)
        if (error := self._next(self.creates)) is not None:
            raise error
        self.made = body
        return body

    def get(self, path: str, **query: str) -> Json | None:
        found: Json | ClusterError | None = self._next(self.looks)
        if isinstance(found, ClusterError):
            raise found
        return found

    def delete(self, path: str, *, grace: int = 0) -> None:
        self.deleted.append(grace)

    @contextmanager
    def watch(self, path: str, seconds: int, **query: str) -> Iterator[Iterator[Json]]:
        self.clock.sleep(seconds)
        yield iter(())

    def _next(self, answers: list[Any]) -> Any:
        return answers.pop(0) if len(answers) > 1 else answers[0]


def look(status: Json, **metadata: Any) -> Json:
    return {"metadata": {"resourceVersion": "1", **metadata}, "status": status}


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(task_pods, "time", made)
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"")))
    return made


@pytest.fixture
def around(tmp_path: Path) -> Around:
    (tmp_path / "task1").mkdir()
    return Around(
        {"spec": {"containers": [{"name": "task"}]}},
        tmp_path,
        "tasks",
        "worker",
        "uid-1",
        0,
        0,
        start=3600.0,
        images={"gdi-task:1": "r.example/t:2"},
    )


def line(**more: Any) -> Line:
    return Line(name=NAME, **{"image": "i:1", "command": ["true"], **more})


def container(around: Around, **more: Any) -> Json:
    made: Json = task_pods.pod(line(**more), around)["spec"]["containers"][0]
    return made


# --- the manifest -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("cpus", "ram_gb", "cpu", "memory"),
    [
        (1, 2, "1000m", "2000M"),
        (0.05, 0.1, "50m", "100M"),
        (0.00001, 0.0004, "10m", "64M"),
        (2, 1.2345, "2000m", "1235M"),
    ],
)
def test_a_task_that_asks_for_next_to_nothing_has_a_limit_all_the_same(
    around: Around, cpus: float, ram_gb: float, cpu: str, memory: str
) -> None:
    asked = Around(around.manifest, around.work, "tasks", "worker", "u", cpus, ram_gb)
    assert container(asked)["resources"] == {"requests": {"cpu": cpu, "memory": memory}, "limits": {"memory": memory}}


def expanded(text: str) -> str:
    """As kubelet does with arguments and environments (k8s.io/kubernetes/third_party/forked/golang/expansion), with no
    variable defined as anything but X.
    """
    return re.sub(r"\$(\$|\(([^)]*)\))", lambda m: "$" if m[1] == "$" else "X", text)


@given(
    st.one_of(
        st.text(alphabet="$()aé ", max_size=30),
        st.sampled_from(["$$", "$$(HOME)", "a$", "$HOME", "$(HOME)", "$$$", "$("]),
    )
)
def test_kubernetes_makes_the_tasks_own_words_of_what_it_is_given(text: str) -> None:
    around = Around({"spec": {"containers": [{"name": "task"}]}}, Path("/w"), "tasks", "worker", "u", 0, 0)
    made = container(around, command=["x", text], environment={"A": text})
    assert expanded(made["args"][1]) == text and expanded(made["env"][0]["value"]) == text


def test_an_image_runs_by_the_nodes_own_name_for_it_and_drains_know_the_pods_owner(around: Around) -> None:
    assert (
        container(around, image="gdi-task:1")["image"] == "r.example/t:2"
        and container(around, image="gdi-task:2")["image"] == "gdi-task:2"
    )
    (owner,) = task_pods.pod(line(), around)["metadata"]["ownerReferences"]
    assert owner == {"apiVersion": "v1", "kind": "Pod", "name": "worker", "uid": "uid-1", "controller": True}


# --- making it ----------------------------------------------------------------------------------


def test_a_full_quota_is_waited_out_ever_more_slowly_and_told(
    clock: Clock, around: Around, capsys: pytest.CaptureFixture[str]
) -> None:
    server = Server(clock, creates=[FULL] * 12 + [None], looks=[look(ENDED)])
    assert task_pods.run(line(), around, server) == 7
    pauses = [b - a for a, b in zip(server.tries, server.tries[1:], strict=False)]
    assert pauses[0] <= 2.5 and max(pauses) <= 30.5 and min(pauses[5:]) >= 15
    assert capsys.readouterr().err.count("waits for room: POST pods: the API server answers 403") == 1


@pytest.mark.parametrize(
    ("creates", "looks", "said"),
    [
        (FULL, None, "exceeded quota: tasks"),
        (ClusterError("resourcequotas: the object has been modified", 409, "Conflict"), None, "has been modified"),
        (
            ClusterError("pods: exists", 409, "AlreadyExists"),
            look(RUNNING, ownerReferences=[{"uid": "another"}]),
            "exists",
        ),
        (ClusterError("pods: does not answer"), None, "does not answer"),
        (None, look(UNSCHEDULED), "did not start for .* s: 0/3 machines: Insufficient cpu"),
    ],
)
def test_what_the_platform_cannot_do_is_its_fault_after_a_time(
    clock: Clock, around: Around, creates: ClusterError | None, looks: Json | None, said: str
) -> None:
    began = clock.now
    with pytest.raises(PlatformError, match=said):
        task_pods.run(line(), around, Server(clock, creates=[creates], looks=[looks]))
    assert clock.now - began < 3700


def test_a_pod_that_is_refused_is_the_tasks_fault_and_a_conflict_is_tried_again(clock: Clock, around: Around) -> None:
    with pytest.raises(ClusterError, match="invalid"):
        task_pods.run(line(), around, Server(clock, creates=[ClusterError("invalid", 422, "Invalid")], looks=[None]))
    conflict = ClusterError("the object has been modified", 409, "Conflict")
    assert (
        task_pods.run(
            Line(name="task1-1", image="i"),
            around,
            Server(clock, creates=[conflict, conflict, None], looks=[look(ENDED)]),
        )
        == 7
    )


def test_a_task_that_is_cancelled_while_it_waits_is_never_made(
    clock: Clock, around: Around, capsys: pytest.CaptureFixture[str]
) -> None:
    server = Server(clock, creates=[FULL], looks=[None])
    clock.meanwhile = (around.work / "task1" / ".gdi-stopped-0").touch
    assert task_pods.run(line(), around, server) == 137 and len(server.tries) == 1
    assert "stopped" in capsys.readouterr().err


def test_a_task_that_is_cancelled_as_it_is_made_is_deleted(clock: Clock, around: Around) -> None:
    class Late(Server):
        def create(self, path: str, body: Json) -> Json:
            (around.work / "task1" / ".gdi-stopped-0").touch()
            return super().create(path, body)

    server = Late(clock, creates=[None], looks=[look({"phase": "Pending"}), None])
    assert task_pods.run(line(), around, server) == 137 and server.deleted == [1, 0]


# --- its end ------------------------------------------------------------------------------------


def test_a_lost_machine_is_not_waited_for_and_a_slow_one_is(clock: Clock, around: Around) -> None:
    leaving = look(RUNNING, deletionTimestamp="2026-11-23T07:00:00Z", deletionGracePeriodSeconds=5)
    began = clock.now
    with pytest.raises(TakenAwayError, match="does not say that it ended"):
        task_pods.run(line(), around, Server(clock, creates=[None], looks=[leaving]))
    assert 65 < clock.now - began < 90
    slow = Server(clock, creates=[None], looks=[leaving, leaving, None])
    with pytest.raises(TakenAwayError, match="its pod was deleted"):
        task_pods.run(Line(name="task1-1", image="i"), around, slow)


@pytest.mark.parametrize(
    "error", [ClusterError("the API server does not answer"), ClusterError("answers 401", 401, "Unauthorized")]
)
def test_an_api_server_that_goes_away_while_the_command_runs_is_no_end_of_it(
    clock: Clock, around: Around, error: ClusterError
) -> None:
    with pytest.raises(TakenAwayError, match=str(error)):
        task_pods.run(line(), around, Server(clock, creates=[None], looks=[look(RUNNING), error]))


def test_a_run_that_fails_passes_on_what_came_and_leaves_no_thread_and_no_open_file(
    clock: Clock, around: Around, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    class Writing(Server):
        def get(self, path: str, **query: str) -> Json | None:
            (around.work / "task1" / ".gdi-streams-0" / "out").write_bytes(b"so far")
            raise ClusterError("the API server does not answer")

    before = set(threading.enumerate())
    with pytest.raises(TakenAwayError):
        task_pods.run(line(), around, Writing(clock, creates=[None], looks=[None]))
    assert capfdbinary.readouterr().out == b"so far"
    assert set(threading.enumerate()) == before
    assert not [f for f in map(os.path.realpath, Path("/proc/self/fd").iterdir()) if str(around.work) in str(f)]


def test_a_stream_that_cannot_be_passed_on_ends_the_thread_quietly_and_the_run_with_the_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Funnel is gone: nobody reads any more."""
    reader, writer = os.pipe()
    os.close(reader)
    monkeypatch.setattr(task_pods, "LOOK", 0.001)
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"")))
    monkeypatch.setattr("sys.stdout", io.TextIOWrapper(os.fdopen(writer, "wb", buffering=0)))
    with pytest.raises(BrokenPipeError), task_pods.Streams(tmp_path / "s") as streams:
        (tmp_path / "s" / "out").write_bytes(b"x")
        streams._thread.join(60)
        assert not streams._thread.is_alive()


def test_funnel_has_time_to_pass_on_what_was_said_before_it_is_ended(
    clock: Clock, around: Around, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    killed: list[tuple[int, int, float]] = []
    monkeypatch.setattr(os, "kill", lambda pid, number: killed.append((pid, number, clock.now)))
    monkeypatch.setattr(Around, "of", classmethod(lambda *_: around))
    monkeypatch.setattr(task_pods, "Cluster", lambda: Server(clock, creates=[FULL], looks=[None]))
    assert task_pods.main(["run", "--name", NAME, "i:1", "true"]) == 125
    ((pid, number, when),) = killed
    assert (pid, number) == (os.getppid(), signal.SIGKILL) and when == clock.now
    assert re.search(r"gdi: the task's pod cannot be made, for 36\d\d s: .*exceeded quota", capsys.readouterr().err)


# --- what the API server's answers mean ---------------------------------------------------------


def test_answers_of_the_api_server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "token").write_text("t")
    answers: list[tuple[int, Json]] = []
    asked: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request.method)
        status, body = answers.pop(0)
        return httpx.Response(status, text=json.dumps(body))

    monkeypatch.setattr(cluster_module, "ACCOUNT", tmp_path)
    monkeypatch.setattr("gdi.kit.retry.time", Clock())  # a refusal that was repeated would find no second answer
    server = object.__new__(Cluster)
    server._http = httpx.Client(transport=httpx.MockTransport(answer), base_url="https://cluster")
    for status, body, full, reason in (
        (
            403,
            {"message": "pods is forbidden: exceeded quota: tasks, requested: pods=1", "reason": "Forbidden"},
            True,
            "Forbidden",
        ),
        (409, {"message": "Operation cannot be fulfilled on resourcequotas", "reason": "Conflict"}, False, "Conflict"),
        (422, {"message": "exceeded quota is not what this is about", "reason": "Invalid"}, False, "Invalid"),
    ):
        answers[:], asked[:] = [(status, body)], []
        with pytest.raises(ClusterError) as error:
            server.create("/pods", {})
        assert (error.value.full, error.value.reason, error.value.status, asked) == (full, reason, status, ["POST"])
