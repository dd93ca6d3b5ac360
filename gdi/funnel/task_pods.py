"""`python -m gdi.funnel.task_pods run|pull|rm …`: Funnel's container driver in Kubernetes. Each executor is a pod
beside its worker's.

Funnel's own executor for Kubernetes (tag 2024-03-03, worker/kubernetes.go) takes every ending for success, so that a
task whose command failed is COMPLETE; gives no environment and no standard input; mixes both outputs; dies where a
watch ends, after half an hour to an hour; and its worker, which holds the node's keys, follows the links that a task
leaves. So Funnel is told that containers are made by this program, as it makes them without Kubernetes
(gdi/funnel/container_line.py): exit codes, both outputs and the environment are the command's own, and what a task
leaves is made plain files first.

It runs in the worker's pod and is told by that pod's environment: GDI_TASK_MANIFEST (YAML of the pod to make:
everything but what the task itself says), GDI_WORK (Funnel's WorkDir), GDI_POD, GDI_POD_UID, GDI_NAMESPACE (the
worker's own), GDI_CPUS, GDI_RAM_GB (of the task, 0: not said), GDI_START_SECONDS (how long a task waits for room),
GDI_IMAGES (JSON: what a task calls its image -> the image that runs). The pods belong to the worker's pod: they go with
it, however it ends. A pod that is taken away (evicted, its machine lost) or finds no room is no end of the command: the
worker is killed, Funnel says SYSTEM_ERROR, and whoever sent the task may send it again.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import random
import signal
import sys
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

import httpx
import yaml

from gdi.funnel.cluster import Cluster, ClusterError, Json
from gdi.funnel.container_line import FAILED, Line, named, parse, task_of
from gdi.funnel.safe_outputs import make_plain

CONTAINER = "task"
CLAIM = "funnel-pvc-"  # and the task: as the chart's PVCTemplate names it
STREAMS = "/gdi-streams"
# The image's own shell joins the command to its streams; the command itself arrives word by word.
WRAPPER = f'exec "$@" <{STREAMS}/in >{STREAMS}/out 2>{STREAMS}/err'
HOPELESS = {"InvalidImageName", "ErrImageNeverPull"}
DOUBTFUL = {
    "ErrImagePull",
    "ImagePullBackOff",
    "CreateContainerConfigError",
    "CreateContainerError",
    "RunContainerError",
}
DOUBT = 180.0  # seconds for which a container that cannot be made is waited for
WATCH = 240  # seconds; the API server ends longer ones itself
LOOK = 0.5  # seconds between looks at what the task says
STOPPING = 60.0  # seconds for which a pod that ends may take longer than it was given: then its machine is lost
START = 21600.0  # seconds for which a task waits for room, where the chart says nothing else
TELL = 30.0  # seconds after which the task's stderr says what it waits for
PAUSES = (2.0, 30.0)  # seconds between tries to make the pod: the first, and the longest
MAX_MANIFEST = 1024 * 1024  # characters: what Kubernetes stores of one object is no more
LOG_DELAY = 6.0  # seconds in which Funnel sends on what was said: more than its LogUpdateRate
LEAST_MEMORY, LEAST_CPU = 64, 10  # MB, thousandths: 0 would be no limit at all
ITS_OWN = {400, 403, 413, 422}  # answers to a pod that no second try makes good


class PlatformError(Exception):
    """The command did not end, and is not to blame: Funnel shall say SYSTEM_ERROR."""


class TakenAwayError(PlatformError):
    """The pod ended and its command did not."""

    def __init__(self, why: str) -> None:
        super().__init__(f"the task's pod was taken away: {why}")


@dataclass(frozen=True)
class Around:
    """What the worker's pod knows of itself and of the task."""

    manifest: Json
    work: Path
    namespace: str
    pod: str
    uid: str
    cpus: float
    ram_gb: float
    start: float = START
    images: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, environment: Mapping[str, str]) -> Around:
        """KeyError, ValueError, OSError, yaml.YAMLError where the chart is wrong."""
        with Path(environment["GDI_TASK_MANIFEST"]).open() as file:
            text = file.read(MAX_MANIFEST + 1)
        if len(text) > MAX_MANIFEST:
            raise ValueError(f"GDI_TASK_MANIFEST is larger than {MAX_MANIFEST} characters")
        manifest = yaml.safe_load(text)
        return cls(
            manifest,
            Path(environment["GDI_WORK"]),
            environment["GDI_NAMESPACE"],
            environment["GDI_POD"],
            environment["GDI_POD_UID"],
            float(environment.get("GDI_CPUS") or 0),
            float(environment.get("GDI_RAM_GB") or 0),
            float(environment.get("GDI_START_SECONDS") or START),
            json.loads(environment.get("GDI_IMAGES") or "{}"),
        )

    @property
    def pods(self) -> str:
        return f"/api/v1/namespaces/{self.namespace}/pods"


def pod(line: Line, around: Around) -> Json:
    """The manifest with the task's own image, command, environment, folders and resources; nothing of the task steers
    anything else.
    """
    task, _ = task_of(line.name)
    made: Json = {"apiVersion": "v1", "kind": "Pod", **around.manifest}
    made["metadata"] = {
        **made.get("metadata", {}),
        "name": line.name,
        "namespace": around.namespace,
        "ownerReferences": [
            {"apiVersion": "v1", "kind": "Pod", "name": around.pod, "uid": around.uid, "controller": True}
        ],
    }
    spec: Json = made["spec"]
    (container,) = spec["containers"]
    mounts = [
        {"name": "work", "mountPath": v.target, "subPath": f"{task}/{v.target.lstrip('/')}", "readOnly": not v.writable}
        for v in sorted(
            line.volumes, key=lambda v: v.target
        )  # parents first: a read-only input inside a writable folder stays read-only
    ]
    taken = {m["mountPath"] for m in mounts}  # Funnel gives every task a /tmp of its own
    own = [m for m in container.get("volumeMounts", []) if m["mountPath"] not in taken]
    streams = {"name": "work", "mountPath": STREAMS, "subPath": f"{task}/{_streams(line.name)}"}
    environment = {**{e["name"]: e["value"] for e in container.get("env", [])}, **line.environment}
    container.update(
        name=CONTAINER,
        image=around.images.get(line.image, line.image),
        command=["/bin/sh", "-c", WRAPPER, "task"],
        args=[_literal(word) for word in line.command],
        env=[{"name": name, "value": _literal(value)} for name, value in environment.items()],
        workingDir=line.workdir,
        volumeMounts=[*own, *mounts, streams],
    )
    resources = container.setdefault("resources", {})
    if around.cpus > 0:
        resources.setdefault("requests", {})["cpu"] = f"{max(LEAST_CPU, math.ceil(around.cpus * 1000))}m"
    if around.ram_gb > 0:
        memory = f"{max(LEAST_MEMORY, math.ceil(around.ram_gb * 1000))}M"
        resources.setdefault("requests", {})["memory"] = resources.setdefault("limits", {})["memory"] = memory
    spec["volumes"] = [*spec.get("volumes", []), {"name": "work", "persistentVolumeClaim": {"claimName": CLAIM + task}}]
    return made


def run(line: Line, around: Around, cluster: Cluster) -> int:
    """Makes the pod, passes its streams on while it runs, and gives its command's exit code. ValueError, ClusterError
    (this pod is refused), PlatformError.
    """
    root = line.root(around.work)
    path, stopped = f"{around.pods}/{line.name}", _stopped(root, line.name)
    with Streams(root / _streams(line.name)):
        try:
            _create(cluster, around, line.name, pod(line, around), stopped)
            code, note = _until_end(cluster, around, line.name, stopped)
        except PlatformError:
            if not stopped.exists():
                raise
            code, note = 128 + signal.SIGKILL, "stopped"
        finally:
            with contextlib.suppress(ClusterError):
                cluster.delete(path)
    if removed := make_plain(root, [v.source for v in line.volumes if v.writable]):
        note += f" {removed} links or pipes that are no file of this task were removed."
    if note.strip():
        print(f"gdi: {note.strip()}", file=sys.stderr)
    return code


def stop(name: str, around: Around, cluster: Cluster) -> None:
    """Ends the pod, and waits until it is gone."""
    root = around.work / task_of(name)[0]
    _stopped(root, name).touch()
    path = f"{around.pods}/{name}"
    cluster.delete(path, grace=1)
    deadline = time.monotonic() + STOPPING
    while cluster.get(path) is not None and time.monotonic() < deadline:
        time.sleep(0.5)


class Streams:
    """The command's standard streams as files, which only this process and the task's pod see. As a context manager:
    a thread passes on what the command writes; at the end it is joined, what came last is passed on, and only then are
    the files closed. OSError where a stream cannot be made, or not be passed on.

    The files stay open: what the task puts in their place meanwhile is not followed. Read by polling, as file systems
    over a network tell no changes.
    """

    def __init__(self, folder: Path, source: BinaryIO | None = None) -> None:
        folder.mkdir(mode=0o700)
        self._folder, self._ended = folder, threading.Event()
        with self._made("in", os.O_WRONLY) as file:
            _copy(source or sys.stdin.buffer, file)
        self._pairs = [
            (self._made("out", os.O_RDONLY), sys.stdout.buffer),
            (self._made("err", os.O_RDONLY), sys.stderr.buffer),
        ]
        self._error: OSError | None = None
        self._thread = threading.Thread(target=self._copy, name="streams of the task", daemon=True)

    def __enter__(self) -> Streams:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._ended.set()
        self._thread.join()
        try:
            if self._error is not None:  # a part of the output is lost: it may be the task's result
                raise self._error
            self._last()
        except OSError:
            if kind is None:  # else what ended the run matters more
                raise
        finally:
            for file, _target in self._pairs:
                file.close()

    def _copy(self) -> None:
        try:
            while not self._ended.wait(LOOK):
                self._pass_on()
        except OSError as error:  # raised at the end, as that of the last part is
            self._error = error

    def _last(self) -> None:
        """A file system over a network shows all of a file to whoever opens it after it was closed."""
        for name in ("out", "err"):
            with contextlib.suppress(OSError):
                os.close(os.open(self._folder / name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK))
        self._pass_on()

    def _pass_on(self) -> None:
        for file, target in self._pairs:
            _copy(file, target)
            target.flush()

    def _made(self, name: str, flags: int) -> BinaryIO:
        descriptor = os.open(self._folder / name, flags | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        return os.fdopen(descriptor, "wb" if flags == os.O_WRONLY else "rb", buffering=0)


def _copy(source: BinaryIO, target: BinaryIO) -> None:
    while part := source.read(1024 * 1024):
        target.write(part)


def _literal(text: str) -> str:
    """Kubernetes puts variables in place of $(NAME), and makes $ of each $$."""
    return text.replace("$", "$$")


def _streams(name: str) -> str:
    return f".gdi-streams-{task_of(name)[1]}"


def _stopped(root: Path, name: str) -> Path:
    """There once the pod was told to stop: that it is gone is then no fault. The task cannot reach this folder."""
    return root / f".gdi-stopped-{task_of(name)[1]}"


def _create(cluster: Cluster, around: Around, name: str, body: Json, stopped: Path) -> None:
    """Waits for room in a full quota. ClusterError where this pod is refused, PlatformError where there is no room or
    no API server, or `stopped` is there.
    """
    path = f"{around.pods}/{name}"
    began, trouble, pause, notice = time.monotonic(), 0.0, PAUSES[0], False
    while not stopped.exists():
        try:
            cluster.create(around.pods, body)
            return
        except ClusterError as error:
            if error.status in ITS_OWN and not error.full:
                raise
            if error.status != 409 and not error.full:
                raise PlatformError(f"the task's pod cannot be made: {error}") from None
            now = time.monotonic()
            trouble = 0.0 if error.full else trouble or now
            if (now - began > around.start) if error.full else (now - trouble > STOPPING):
                raise PlatformError(
                    f"the task's pod cannot be made, for {now - (trouble or began):.0f} s: {error}"
                ) from None
            if error.full and not notice and now - began > TELL:
                notice = _tell(str(error))
            if error.reason == "AlreadyExists" and _was_made(cluster, path, around.uid):
                return
        until = time.monotonic() + pause * random.uniform(0.5, 1)  # noqa: S311
        while time.monotonic() < until and not stopped.exists():
            time.sleep(0.5)
        pause = min(2 * pause, PAUSES[1])
    raise PlatformError("the task was cancelled before its pod was made")


def _was_made(cluster: Cluster, path: str, uid: str) -> bool:
    """Whether the pod of this name is ours, whose answer was lost. That of a worker before this one is deleted, for the
    next try. PlatformError.
    """
    try:
        there = cluster.get(path)
        if there is None or _owner(there) == uid:
            return there is not None
        cluster.delete(path, grace=1)
    except ClusterError as error:
        raise PlatformError(f"the task's pod cannot be made: {error}") from None
    return False


def _tell(what: str) -> bool:
    print(f"gdi: the task waits for room: {what}", file=sys.stderr, flush=True)
    return True


def _owner(pod: Json) -> str:
    return next((str(o.get("uid")) for o in pod["metadata"].get("ownerReferences") or []), "")


def _until_end(cluster: Cluster, around: Around, name: str, stopped: Path) -> tuple[int, str]:
    """(exit code, what is to be said of it). PlatformError."""
    began, notice = time.monotonic(), False
    since: float | None = None  # when its container could first not be made
    leaving: float | None = None  # when it was first seen to be deleted
    while True:
        try:
            found = cluster.get(f"{around.pods}/{name}")
            if found is None:
                raise TakenAwayError("its pod was deleted")
            if (ending := _ending(found)) is not None:
                return ending
            if stopped.exists() and not found["metadata"].get("deletionTimestamp"):
                cluster.delete(
                    f"{around.pods}/{name}", grace=1
                )  # cancelled just before it was made, or while the API server was away
                continue
        except ClusterError as error:
            raise TakenAwayError(str(error)) from None
        now = time.monotonic()
        if found["metadata"].get("deletionTimestamp"):
            leaving = leaving or now
            if now - leaving > STOPPING + int(found["metadata"].get("deletionGracePeriodSeconds") or 0):
                raise TakenAwayError("it was deleted, and its machine does not say that it ended")
        reason, message = _waiting(found)
        since = (since or now) if reason in DOUBTFUL | HOPELESS else None
        if reason in HOPELESS or (since is not None and now - since > DOUBT):
            return FAILED, f"the container cannot be made: {reason}: {message}"
        pending = (found.get("status") or {}).get("phase", "Pending") == "Pending"
        if pending and now - began > around.start:
            raise PlatformError(
                f"the task's pod did not start for {now - began:.0f} s: {_unscheduled(found) or f'{reason}: {message}'}"
            )
        if pending and not notice and now - began > TELL and (why := _unscheduled(found)):
            notice = _tell(f"no machine takes its pod: {why}")
        this = {"fieldSelector": f"metadata.name={name}", "resourceVersion": str(found["metadata"]["resourceVersion"])}
        try:
            with cluster.watch(around.pods, 10 if since or leaving else 30 if pending else WATCH, **this) as changes:
                next(changes, None)
        except (httpx.HTTPError, ClusterError, ValueError):
            time.sleep(1)


def _ending(pod: Json) -> tuple[int, str] | None:
    """How the command ended, None while it did not. TakenAwayError where the pod ended without it, or both because the
    machine was wanted back.
    """
    status = pod.get("status") or {}
    conditions = {c.get("type"): c for c in status.get("conditions") or [] if c.get("status") == "True"}
    taken = conditions.get("DisruptionTarget")
    for one in status.get("containerStatuses") or []:
        if ended := (one.get("state") or {}).get("terminated"):
            reason = str(ended.get("reason") or "")
            code = int(ended.get("exitCode", FAILED))
            if code and (taken or reason == "ContainerStatusUnknown"):
                raise TakenAwayError(str((taken or {}).get("message") or reason))
            if code and pod["metadata"].get("deletionTimestamp"):
                raise TakenAwayError("its pod was deleted")
            return (
                code,
                "the command used more memory than the task asked for, and was killed."
                if reason == "OOMKilled"
                else "",
            )
    if status.get("phase") == "Failed":
        raise TakenAwayError(f"{status.get('reason') or 'its pod failed'}: {status.get('message') or ''}")
    return None


def _waiting(pod: Json) -> tuple[str, str]:
    for one in (pod.get("status") or {}).get("containerStatuses") or []:
        if waiting := (one.get("state") or {}).get("waiting"):
            return str(waiting.get("reason") or ""), str(waiting.get("message") or "")[:300]
    return "", ""


def _unscheduled(pod: Json) -> str:
    """The scheduler's own words."""
    conditions = (pod.get("status") or {}).get("conditions") or []
    return next(
        (
            str(c.get("message") or "")[:500]
            for c in conditions
            if c.get("type") == "PodScheduled" and c.get("status") == "False"
        ),
        "",
    )


def main(arguments: list[str]) -> int:
    verb, rest = (arguments[0], arguments[1:]) if arguments else ("version", [])
    if verb not in ("run", "rm"):  # pull, version: Kubernetes' affair, but Funnel wants to read something
        print(json.dumps({"Server": "gdi", "Client": "gdi"}))
        return 0
    try:
        around, cluster = Around.of(os.environ), Cluster()
        if verb == "rm":
            stop(named(rest), around, cluster)
            return 0
        return run(parse(rest), around, cluster)
    except PlatformError as error:
        print(f"gdi: {error}", file=sys.stderr, flush=True)
        time.sleep(LOG_DELAY)
        os.kill(os.getppid(), signal.SIGKILL)
        return FAILED
    except (ValueError, OSError, KeyError, yaml.YAMLError, ClusterError) as error:
        print(f"gdi: the task's pod cannot be made: {error}", file=sys.stderr)
        return FAILED


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
