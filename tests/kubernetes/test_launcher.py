"""The launcher's contract on a real cluster, with no right but those that the chart gives Airflow: create, start,
watch, stop, and all that goes wrong.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from gdi.kit.problem import ProblemError
from gdi.pods.model import LauncherError, PodStatus
from gdi_operators.kubernetes import api
from tests.kubernetes.cluster import Cluster, ClusterError, until
from tests.kubernetes.launcher_kit import RUNS, Rig, airflows_rights, as_airflow


@pytest.fixture(scope="module")
def rig(cluster: Cluster, broker_image: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    folder = tmp_path_factory.mktemp("launcher")
    airflows_rights(cluster)
    with pytest.MonkeyPatch.context() as environment, as_airflow(cluster, folder, environment):
        yield Rig(cluster, folder / "workflows")


def ended(status: PodStatus | None) -> bool:
    return status is not None and status.ended


def gone(status: PodStatus | None) -> bool:
    return status is None


def log_of(rig: Rig, name: str) -> subprocess.Popen[str]:
    """Follows a pod's log beyond the pod's own end."""
    command = [
        *rig.cluster.enter("net"),
        str(rig.cluster.bin / "kubectl"),
        "--kubeconfig",
        str(rig.cluster.state / "pki/admin.conf"),
        "logs",
        "-f",
        "-n",
        RUNS,
    ]
    return subprocess.Popen([*command, name], stdout=subprocess.PIPE, text=True)


@contextmanager
def ended_with(*processes: subprocess.Popen[str]) -> Iterator[None]:
    """A failure within is not held up by who still follows a log."""
    try:
        yield
    except BaseException:
        for process in processes:
            process.kill()
        raise


def test_a_pod_waits_behind_its_gate_then_runs_as_the_contract_says(rig: Rig) -> None:
    launcher, spec = rig.launcher(), rig.spec("write")
    made = launcher.create(spec)
    assert made.state == "created" and made.uid and launcher.create(spec).uid == made.uid
    assert launcher.start(spec.name).uid == made.uid
    status = rig.awaited(launcher, spec, ended)
    assert status is not None and status.succeeded, rig.story(spec)
    lines, _ = asyncio.run(_log(launcher, spec.name))
    seen = json.loads(lines[0])
    assert (
        seen["digest"] == rig.digest
        and seen["aud"] == ["token-broker"]
        and seen["sub"] == f"system:serviceaccount:{RUNS}:snakemake"
    )
    assert seen["pod"] == {"name": spec.name, "uid": made.uid} and seen["uid"] == 10001 and not seen["account"]
    assert lines[1:] == ["done"], "it writes to its work folder and /tmp, nowhere else"
    assert not [name for name in seen["environment"] if "SERVICE" in name and not name.startswith("KUBERNETES_")], (
        "it is told of no other service"
    )
    assert set(launcher.of_attempt(spec.run, "node-a", 1)) == {spec.name} and not launcher.of_attempt(
        spec.run, "node-a", 2
    )
    assert launcher.start(spec.name).ended and launcher.create(spec).ended


async def _log(launcher: Any, name: str) -> tuple[list[str], str]:
    try:
        lines, since = await launcher.alog(name, "")
        again, _ = await launcher.alog(name, since)
        assert not again, "no line comes twice"
        assert (await launcher.alog(name, "", ended=True))[0] == lines and not (
            await launcher.alog(name, since, ended=True)
        )[0]
        return lines, since
    finally:
        await launcher.aclose()


def test_nothing_secret_is_in_the_spec_and_it_is_asked_for_once(rig: Rig) -> None:
    launcher, spec = rig.launcher(), rig.spec("exit", code=0)
    launcher.create(spec)
    pod = rig.cluster.get("pod", spec.name, RUNS)
    held = rig.cluster.get("configmap", spec.name, RUNS)
    assert held["immutable"] and held["metadata"]["ownerReferences"][0]["uid"] == pod["metadata"]["uid"]
    assert set(json.loads(held["data"]["run.json"])) == {
        "run",
        "attempt",
        "node",
        "pod",
        "workflow",
        "digest",
        "parameters",
        "datasets",
        "audience",
        "broker_url",
        "gateway_url",
        "relays",
    }
    assert not pod["spec"]["containers"][0].get("env") and "nodeName" not in pod["spec"]
    other = rig.spec("exit", code=1)
    with pytest.raises(LauncherError, match="something else"):
        launcher.create(type(other)(**{**vars(other), "name": spec.name, "run": spec.run}))
    rig.cluster.kubectl("delete", "configmap", "-n", RUNS, spec.name)  # as if the worker had died between the two
    launcher.create(spec)
    assert rig.cluster.get("configmap", spec.name, RUNS)
    launcher.stop(spec.name, mode="cancel", grace=5)
    assert launcher.get(spec.name) is None
    launcher.stop(spec.name, mode="cancel", grace=5)
    with pytest.raises(LauncherError, match="gone"):
        launcher.start(spec.name)


def test_a_workflow_that_changed_since_admission_is_not_started(rig: Rig) -> None:
    spec = rig.spec("exit", code=0)
    with pytest.raises(LauncherError, match="start the analysis again"):
        rig.launcher().create(type(spec)(**{**vars(spec), "digest": "sha256:" + "0" * 64}))


@pytest.mark.parametrize(("code", "lost"), [(1, False), (2, False), (75, True)])
def test_how_a_pod_ended_is_told(rig: Rig, code: int, lost: bool) -> None:
    launcher, spec = rig.launcher(), rig.spec("exit", code=code)
    rig.started(launcher, spec)
    status = rig.awaited(launcher, spec, ended)
    assert status is not None and status.exit_code == code and status.lost is lost and status.signal is None


def test_a_pod_that_takes_too_much_memory_is_lost_with_that_reason(rig: Rig) -> None:
    launcher, spec = rig.launcher(), rig.spec("memory")
    rig.started(launcher, spec)
    status = rig.awaited(launcher, spec, ended)
    assert (
        status is not None
        and status.lost
        and status.signal == 9
        and "more memory than its limit of 128Mi" in status.reason
    )


@pytest.mark.kubernetes_long  # the kubelet looks at a pod's disk once a minute
def test_a_pod_that_fills_its_disk_is_evicted_and_lost_with_that_reason(rig: Rig) -> None:
    launcher, spec = rig.launcher(), rig.spec("disk", mb=200, seconds=200)
    rig.started(launcher, spec)
    status = rig.awaited(launcher, spec, ended, 150)
    assert status is not None and status.lost and "Evicted" in status.reason


def test_a_cancelled_pod_knows_that_it_was_cancelled_and_a_drained_one_hands_over(rig: Rig) -> None:
    launcher = rig.launcher(mark_seconds=6)  # a kubelet on a busy machine takes its time to write the mark
    cancelled, drained = rig.spec("sleep", seconds=300), rig.spec("sleep", seconds=300)
    for spec in (cancelled, drained):
        rig.started(launcher, spec)
    for spec in (cancelled, drained):
        rig.running(spec)
    with log_of(rig, cancelled.name) as first, log_of(rig, drained.name) as second, ended_with(first, second):
        asyncio.run(_stop(launcher, cancelled.name))
        node = rig.cluster.get("pod", drained.name, RUNS)["spec"]["nodeName"]
        rig.cluster.kubectl(
            "drain",
            node,
            "--force",
            "--ignore-daemonsets",
            "--delete-emptydir-data",
            f"--pod-selector=gdi-run={drained.run}",
            "--timeout=60s",
            timeout=70,
        )
        rig.cluster.kubectl("uncordon", node)
        assert "asked to cancel" in first.communicate(timeout=60)[0]
        assert "asked to hand-over" in second.communicate(timeout=60)[0]
    for spec in (cancelled, drained):
        rig.awaited(launcher, spec, gone)
        assert not launcher.of_attempt(spec.run, "node-a", 1)


async def _stop(launcher: Any, name: str) -> None:
    try:
        await launcher.astop(name, mode="cancel", grace=20)
        status = await launcher.aget(name)
        assert status is None or status.stopping
    finally:
        await launcher.aclose()


def test_an_absent_image_blocks_the_pod_with_that_reason(rig: Rig) -> None:
    launcher, spec = (
        rig.launcher(image="registry.invalid/absent:1", image_pull_policy="Never"),
        rig.spec("exit", code=0),
    )
    rig.started(launcher, spec)
    status = rig.awaited(launcher, spec, lambda s: s is not None and s.blocked, 120)
    assert status is not None and "ErrImageNeverPull" in status.reason and not status.ended
    launcher.stop(spec.name, mode="cancel", grace=1)
    rig.awaited(launcher, spec, gone)
    slow, other = (
        rig.launcher(image="registry.invalid/absent:1", image_pull_policy="IfNotPresent", start_timeout=3),
        rig.spec("exit", code=0),
    )
    rig.started(slow, other)
    status = rig.awaited(slow, other, lambda s: s is not None and s.blocked and "Image" in s.reason, 60)
    assert status is not None and not status.ended
    slow.stop(other.name, mode="cancel", grace=1)


def test_a_pod_that_no_machine_takes_is_told_with_the_schedulers_reason(rig: Rig) -> None:
    launcher = rig.launcher(start_timeout=8, limits={"cpu": "5000"})
    spec = rig.spec("exit", code=0, pod={"cpu": "4000"})
    launcher.create(spec)
    time.sleep(9)  # longer than its time to start, which begins when it is let go
    assert not launcher.start(spec.name).blocked
    status = rig.awaited(launcher, spec, lambda s: s is not None and s.blocked and "Insufficient cpu" in s.reason, 120)
    assert status is not None and not status.ended
    launcher.stop(spec.name, mode="cancel", grace=1)


def test_a_full_quota_is_told_and_may_pass(rig: Rig) -> None:
    quota = {
        "apiVersion": "v1",
        "kind": "ResourceQuota",
        "metadata": {"name": "none", "namespace": RUNS},
        "spec": {"hard": {"pods": "0"}},
    }
    launcher, spec = rig.launcher(), rig.spec("exit", code=0)
    rig.cluster.apply([quota])
    try:
        until(
            "the quota is in force", lambda: "hard" in rig.cluster.get("resourcequota", "none", RUNS).get("status", {})
        )
        with pytest.raises(ProblemError, match="exceeded quota: none") as refused:
            launcher.create(spec)
        assert refused.value.problem.status == 429
    finally:
        rig.cluster.kubectl("delete", "resourcequota", "none", "-n", RUNS)

    def made() -> bool:
        try:
            return launcher.create(spec).state == "created"
        except ProblemError:
            return False

    until("the quota is gone", made, 120)
    launcher.stop(spec.name, mode="cancel", grace=0)


def test_a_run_gets_what_it_asks_for_within_the_operators_limits(rig: Rig) -> None:
    limits = {
        "cpu": "1",
        "memory": "128Mi",
        "priority_classes": ["gdi-urgent"],
        "node_selectors": {"kubernetes.io/os": ["linux"]},
        "tolerations": [{"key": "gdi"}],
    }
    launcher = rig.launcher(limits=limits, workflows={"probe": {"memory": "96Mi"}})
    priority = {
        "apiVersion": "scheduling.k8s.io/v1",
        "kind": "PriorityClass",
        "metadata": {"name": "gdi-urgent"},
        "value": 1000,
    }
    rig.cluster.apply([priority])
    wish = {
        "cpu": "30m",
        "priority_class": "gdi-urgent",
        "node_selector": {"kubernetes.io/os": "linux"},
        "tolerations": [{"key": "gdi"}],
    }
    spec = rig.spec("exit", code=0, pod=wish)
    launcher.create(spec)
    made = rig.cluster.get("pod", spec.name, RUNS)["spec"]
    assert (
        made["containers"][0]["resources"]["requests"]["cpu"] == "30m"
        and made["containers"][0]["resources"]["limits"]["memory"] == "96Mi"
    )
    assert made["priorityClassName"] == "gdi-urgent" and made["nodeSelector"] == {"kubernetes.io/os": "linux"}
    assert {"key": "gdi", "operator": "Equal"} in [
        {k: v for k, v in t.items() if k != "effect"} for t in made["tolerations"]
    ]
    launcher.stop(spec.name, mode="cancel", grace=0)
    for wrong in (
        {"memory": "1Gi"},
        {"priority_class": "system-node-critical"},
        {"node_selector": {"role": "control"}},
        {"tolerations": [{"key": "x"}]},
    ):
        with pytest.raises(LauncherError, match=f"pod.{next(iter(wrong))}"):
            launcher.create(rig.spec("exit", code=0, pod=wrong))


def test_while_the_api_server_is_away_calls_say_so_and_afterwards_nothing_is_lost(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(api, "TIMEOUT", (2, 2))
    launcher, spec = rig.launcher(), rig.spec("sleep", seconds=15)
    rig.started(launcher, spec)
    rig.running(spec)
    with rig.cluster.without("kube-apiserver"), pytest.raises(ProblemError, match="does not answer") as away:
        launcher.get(spec.name)
    assert away.value.problem.status == 503
    status = (
        rig.awaited(launcher, spec, lambda s: False if s is None else s.ended, 60)
        if _answers(launcher, spec.name)
        else None
    )
    assert status is not None and status.succeeded


def _answers(launcher: Any, name: str) -> bool:
    def answers() -> bool:
        try:
            return launcher.get(name) is not None
        except ProblemError:
            return False

    return until("the API server answers again", answers, 60)


def test_airflow_may_do_nothing_else_in_the_cluster(rig: Rig) -> None:
    def may(verb: str, what: str, namespace: str) -> bool:
        kind, _, part = what.partition("/")
        asked = [
            "auth",
            "can-i",
            verb,
            kind,
            "-n",
            namespace,
            "--as=system:serviceaccount:gdi:airflow",
            *([f"--subresource={part}"] if part else []),
        ]
        return rig.cluster.kubectl(*asked, check=False).strip() == "yes"

    assert may("create", "pods", RUNS) and may("get", "pods/log", RUNS)
    for verb, what, namespace in (
        ("get", "secrets", RUNS),
        ("create", "pods", "gdi"),
        ("get", "secrets", "gdi"),
        ("create", "pods/exec", RUNS),
        ("create", "serviceaccounts/token", RUNS),
        ("list", "pods", "default"),
        ("update", "namespaces", RUNS),
    ):
        assert not may(verb, what, namespace), (verb, what, namespace)


def test_a_pod_that_is_not_restricted_is_refused_where_runs_are(rig: Rig) -> None:
    spec = {"containers": [{"name": "x", "image": "x", "securityContext": {"privileged": True}}]}
    with pytest.raises(ClusterError, match="violates PodSecurity"):
        rig.cluster.apply(
            [{"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "x", "namespace": RUNS}, "spec": spec}]
        )
