"""Pods of a run on Kubernetes, against a stand-in of its API that evicts, refuses and vanishes: the run goes on or
fails for the true reason, never twice.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from airflow.sdk.exceptions import AirflowException, AirflowFailException, TaskDeferred

from gdi.pods import answers as api
from gdi.pods import manifest
from gdi_operators.launchers import LauncherError, get_launcher
from gdi_operators.operators import AdmitRunOperator, SnakemakeOperator
from gdi_operators.settings import settings
from tests.support.cluster_stand_in import StandIn, now
from tests.support.operators_flow import deferred, event_of
from tests.support.operators_world import Served, World, until


class Clustered(World):
    """The operators' world with a Kubernetes in place of the process host."""

    cluster: StandIn

    def allow(self, **changes: Any) -> Path:
        """Writes what the operator allows."""
        path = self.folder / "pods.yaml"
        path.write_text(
            yaml.safe_dump(
                {
                    "conn_id": "the_cluster",
                    "image": "gdi-snakemake:1",
                    "mark_seconds": 0.01,
                    "limits": {"memory": "2Gi"},
                    **changes,
                }
            )
        )
        return path

    def name(self, generation: int, node: str = "node-a", attempt: int = 1) -> str:
        return f"{self.run}-{node}-{attempt}-{generation}"


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Clustered]:
    made = Clustered(tmp_path)
    made.cluster = StandIn()
    served = Served(made.cluster.app())
    config = tmp_path / "pods.yaml"
    config.write_text(
        yaml.safe_dump(
            {
                "conn_id": "the_cluster",
                "image": "gdi-snakemake:1",
                "mark_seconds": 0.01,
                "start_timeout": 600,
                "limits": {"memory": "2Gi"},
            }
        )
    )
    kubeconfig = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "x",
        "contexts": [{"name": "x", "context": {"cluster": "x", "user": "x"}}],
        "clusters": [{"name": "x", "cluster": {"server": served.url}}],
        "users": [{"name": "x", "user": {}}],
    }
    (tmp_path / "kubeconfig").write_text(json.dumps(kubeconfig))
    extra = {"kube_config_path": str(tmp_path / "kubeconfig")}
    monkeypatch.setenv("AIRFLOW_CONN_THE_CLUSTER", json.dumps({"conn_type": "kubernetes", "extra": extra}))
    for name, value in {
        **made.environment,
        "GDI_LAUNCHER": "kubernetes",
        "GDI_POD_CONFIG": str(config),
        "GDI_BROKER_PATIENCE": "120",
    }.items():
        monkeypatch.setenv(name, value)
    settings.cache_clear()
    yield made
    served.stop()
    made.close()
    settings.cache_clear()


def admit(world: Clustered, **more: Any) -> dict[str, Any]:
    return AdmitRunOperator(task_id="admit", workflow="probe").execute(world.context(mode="ok", **more))[0]


def analyse(item: dict[str, Any], **more: Any) -> SnakemakeOperator:
    return SnakemakeOperator(task_id="analyse", workflow="probe", item=item, poll=0.05, grace=5, **more)


def start(world: Clustered, operator: SnakemakeOperator) -> TaskDeferred:
    return deferred(lambda: operator.execute(world.context(mode="ok")))


def resume(world: Clustered, operator: SnakemakeOperator, waiting: TaskDeferred) -> dict[str, Any] | TaskDeferred:
    try:
        return operator.resume(world.context(mode="ok"), json.loads(json.dumps(event_of(waiting))))
    except TaskDeferred as again:
        return again


def later(what: Callable[[], None], seconds: float = 0.3) -> None:
    """What may come before or after what the test does next."""
    threading.Timer(seconds, what).start()


def once_turned_away(world: Clustered, what: Callable[[], None]) -> None:
    """Does `what` after the API server has answered that it cannot, twice."""
    enough = world.cluster.turned_away + 2

    def wait() -> None:
        until(lambda: world.cluster.turned_away >= enough)
        what()

    threading.Thread(target=wait, daemon=True).start()


def test_a_pod_is_registered_then_made_then_pinned_then_let_go(world: Clustered) -> None:
    operator = analyse(admit(world))
    waiting = start(world, operator)
    pod = world.cluster.pods[world.name(1)]
    assert (
        world.broker.workloads == [(world.name(1), None), (world.name(1), pod["metadata"]["uid"])]
        and pod["spec"]["schedulingGates"] == []
    )
    assert world.cluster.maps[world.name(1)]["metadata"]["ownerReferences"][0]["uid"] == pod["metadata"]["uid"]
    assert pod["metadata"]["annotations"][manifest.LET_GO].endswith("Z")
    later(lambda: world.cluster.end(world.name(1), 0))
    assert resume(world, operator, waiting) == {"node": "node-a", "attempt": 1, "pod": world.name(1)}


@pytest.mark.parametrize("step", ["create", "_config_map", "start"])
def test_a_worker_that_dies_within_a_launch_leaves_one_pod_that_the_next_takes_up(
    world: Clustered, step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from gdi_operators.launchers.kubernetes_launcher import KubernetesLauncher

    operator = analyse(admit(world))
    with monkeypatch.context() as patch:
        patch.setattr(KubernetesLauncher, step, _die)
        with pytest.raises(KeyboardInterrupt):
            operator.execute(world.context(mode="ok"))
    assert all(p["spec"]["schedulingGates"] for p in world.cluster.pods.values()), "nothing runs before it is pinned"
    start(world, operator)
    assert (
        world.cluster.created == [world.name(1)]
        and not world.cluster.pods[world.name(1)]["spec"]["schedulingGates"]
        and world.cluster.maps
    )


def _die(*_: Any, **__: Any) -> None:
    raise KeyboardInterrupt


def test_an_evicted_pod_is_replaced_and_its_name_is_never_used_again(world: Clustered) -> None:
    operator = analyse(admit(world))
    waiting = start(world, operator)
    later(lambda: world.cluster.evict(world.name(1)))
    again = resume(world, operator, waiting)
    assert isinstance(again, TaskDeferred) and world.cluster.created == [world.name(1), world.name(2)]
    world.cluster.evict(world.name(2))  # the trigger's event is lost with its triggerer, and the task is executed anew
    start(world, operator)
    assert world.cluster.created == [world.name(1), world.name(2), world.name(3)]
    start(world, operator)
    assert len(world.cluster.created) == 3, "a running pod is waited for"


def test_a_pod_out_of_memory_is_tried_again_and_then_named(world: Clustered) -> None:
    operator = analyse(admit(world), max_relaunches=1)
    waiting: Any = start(world, operator)
    for generation in (1, 2):
        later(lambda name=world.name(generation): world.cluster.end(name, 137, "OOMKilled"))  # type: ignore[misc]
        if generation == 2:
            with pytest.raises(AirflowFailException, match="more memory than its limit of 1Gi"):
                resume(world, operator, waiting)
        else:
            waiting = resume(world, operator, waiting)
    assert len(world.cluster.created) == 2


def test_an_absent_image_fails_the_task_with_that_reason_and_removes_the_pod(world: Clustered) -> None:
    operator = analyse(admit(world))
    world.allow(start_timeout=1)
    waiting = start(world, operator)
    pulling = {
        "name": "snakemake",
        "state": {"waiting": {"reason": "ImagePullBackOff", "message": "registry says: manifest unknown"}},
    }
    world.cluster.set(
        world.name(1),
        containerStatuses=[pulling],
        conditions=[{"type": "PodScheduled", "status": "True", "lastTransitionTime": now()}],
    )
    with pytest.raises(AirflowFailException, match=r"cannot start: ImagePullBackOff: registry says: manifest unknown"):
        resume(world, operator, waiting)
    assert not world.cluster.pods and world.broker.runs[world.run].failing is not None


def test_a_full_quota_is_waited_for_then_retried_with_the_reason(
    world: Clustered, monkeypatch: pytest.MonkeyPatch
) -> None:
    operator = analyse(admit(world))
    world.cluster.refuse = (
        403,
        "Forbidden",
        'pods "x" is forbidden: exceeded quota: runs, requested: pods=1, used: pods=9, limited: pods=9',
    )

    def patience(seconds: float) -> None:
        monkeypatch.setenv("GDI_BROKER_PATIENCE", str(seconds))
        settings.cache_clear()

    patience(0)
    with pytest.raises(AirflowException, match="exceeded quota: runs") as full:
        start(world, operator)
    assert not isinstance(full.value, AirflowFailException)

    def free() -> None:
        world.cluster.refuse = None

    patience(120)
    once_turned_away(world, free)
    start(world, operator)
    assert world.cluster.created == [world.name(1)]


def test_a_refusal_for_good_is_not_retried(world: Clustered, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api, "REFUSED_SECONDS", 0.1)
    world.cluster.refuse = (
        403,
        "Forbidden",
        'pods is forbidden: User "system:serviceaccount:gdi:airflow" cannot create resource "pods"',
    )
    with pytest.raises(AirflowFailException, match=r"refuses Airflow this \(403\).*Role"):
        analyse(admit(world)).execute(world.context(mode="ok"))


def test_an_api_server_that_starts_and_does_not_know_its_roles_yet_is_waited_for(
    world: Clustered, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(api, "REFUSED_SECONDS", 600)
    operator = analyse(admit(world))

    def known() -> None:
        world.cluster.starting = False

    world.cluster.starting = True
    once_turned_away(world, known)
    waiting = start(world, operator)
    world.cluster.run(world.name(1))
    world.cluster.starting = True

    def ended() -> None:
        known()
        world.cluster.end(world.name(1), 0)

    once_turned_away(world, ended)
    done = resume(world, operator, waiting)
    assert isinstance(done, dict) and len(world.cluster.created) == 1


def test_an_api_server_that_is_away_is_waited_out_by_who_waits(world: Clustered) -> None:
    operator = analyse(admit(world))
    waiting = start(world, operator)
    world.cluster.run(world.name(1))
    world.cluster.down = True

    def back() -> None:
        world.cluster.down = False
        world.cluster.end(world.name(1), 0)

    once_turned_away(world, back)
    done = resume(world, operator, waiting)
    assert isinstance(done, dict) and len(world.cluster.created) == 1


def test_what_a_user_ends_is_marked_before_it_is_deleted(world: Clustered) -> None:
    import asyncio

    operator = analyse(admit(world))
    waiting = start(world, operator)
    world.cluster.run(world.name(1))
    asyncio.run(waiting.trigger.on_kill())
    assert [(name, grace, marks[manifest.STOP]) for name, grace, marks in world.cluster.deleted] == [
        (world.name(1), 5, "cancel")
    ]
    asyncio.run(waiting.trigger.on_kill())


def test_what_a_user_ends_while_the_api_server_is_away_ends_when_it_is_back(world: Clustered) -> None:
    import asyncio

    waiting = start(world, analyse(admit(world)))
    world.cluster.run(world.name(1))
    world.cluster.down = True

    def back() -> None:
        world.cluster.down = False

    once_turned_away(world, back)
    asyncio.run(waiting.trigger.on_kill())
    assert [name for name, _, _ in world.cluster.deleted] == [world.name(1)]


def test_a_pod_whose_machine_vanished_is_lost_and_one_that_ends_slowly_is_not(world: Clustered) -> None:
    launcher = get_launcher("kubernetes")
    start(world, analyse(admit(world)))
    world.cluster.run(world.name(1))
    pod = world.cluster.pods[world.name(1)]
    pod["metadata"]["deletionTimestamp"] = now()
    status = launcher.get(world.name(1))
    assert status is not None and status.stopping and not status.ended
    pod["metadata"]["deletionTimestamp"] = "2020-01-01T00:00:00Z"
    status = launcher.get(world.name(1))
    assert status is not None and status.lost and "machine-1" in status.reason


def test_a_wish_of_the_run_is_kept_within_limits_at_admission(world: Clustered) -> None:
    conf = {"ticket": "gdit_planted-ticket-0123456789", "datasets": ["DS-A", "DS-B"], "mode": "ok"}
    for wrong, why in (
        ({"memory": "8Gi"}, "more than the 2Gi"),
        ({"image": "mine"}, "pod.image"),
        ({"memory": "lots"}, "not a quantity"),
        ("x", "pod"),
    ):
        with pytest.raises(AirflowFailException, match=why):
            AdmitRunOperator(task_id="admit", workflow="probe").execute(world.context(conf={**conf, "pod": wrong}))
    assert not world.broker.admissions
    context = world.context(conf={**conf, "pod": {"memory": "2Gi"}})
    item = AdmitRunOperator(task_id="admit", workflow="probe").execute(context)[0]
    deferred(lambda: analyse(item).execute(context))
    assert world.cluster.pods[world.name(1)]["spec"]["containers"][0]["resources"]["limits"]["memory"] == "2Gi"


def test_the_pods_log_is_followed_once_and_bounded(world: Clustered, capsys: pytest.CaptureFixture[str]) -> None:
    operator = analyse(admit(world))
    waiting = start(world, operator)
    world.cluster.run(world.name(1))
    world.cluster.pods[world.name(1)]["log"] = "2026-01-01T00:00:00.1Z first\n2026-01-01T00:00:00.2Z \x1b[31mred\n"
    later(lambda: world.cluster.end(world.name(1), 0))
    resume(world, operator, waiting)
    said = capsys.readouterr().out
    assert said.count("node-a | first") == 1 and "node-a | ?[31mred" in said and "\x1b[31mred" not in said


def test_pods_that_ended_long_ago_are_removed(world: Clustered) -> None:
    operator = analyse(admit(world))
    start(world, operator)
    world.cluster.end(world.name(1), 75)
    world.cluster.pods[world.name(1)]["status"]["containerStatuses"][0]["state"]["terminated"]["finishedAt"] = (
        "2020-01-01T00:00:00Z"
    )
    world.cluster.pods[world.name(1)]["metadata"]["creationTimestamp"] = "2020-01-01T00:00:00Z"
    start(world, operator)
    assert list(world.cluster.pods) == [world.name(2)]


def test_a_pod_that_nobody_let_go_is_removed_with_its_files_and_ones_own_is_taken_up(
    world: Clustered, monkeypatch: pytest.MonkeyPatch
) -> None:
    from gdi_operators.launchers.kubernetes_launcher import KubernetesLauncher

    items = AdmitRunOperator(task_id="admit", workflow="probe").execute(world.context(mode="ok"))
    with monkeypatch.context() as patch:
        patch.setattr(KubernetesLauncher, "start", _die)
        for item in items:
            with pytest.raises(KeyboardInterrupt):
                analyse(item).execute(world.context(mode="ok"))
    first, second = (world.name(1, item["node"]) for item in items)
    for name in (first, second):
        world.cluster.pods[name]["metadata"]["creationTimestamp"] = "2020-01-01T00:00:00Z"
    start(world, analyse(items[1]))
    assert (
        list(world.cluster.pods) == list(world.cluster.maps) == [second]
        and not world.cluster.pods[second]["spec"]["schedulingGates"]
    )
    start(world, analyse(items[0]))
    assert list(world.cluster.pods) == [second, world.name(2, items[0]["node"])], (
        "the name whose uid is pinned is passed over"
    )


def test_a_name_that_is_no_pods_is_refused(world: Clustered) -> None:
    with pytest.raises(LauncherError, match="not the name"):
        get_launcher("kubernetes").get("../secrets/x")
