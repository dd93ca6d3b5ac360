"""Pods of a run on Kubernetes, against a stand-in of its API that evicts, refuses and vanishes: the run goes on or
fails for the true reason, never twice.
"""

from __future__ import annotations

import asyncio
import inspect
import json
import threading
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from airflow.providers.cncf.kubernetes.cli.kubernetes_command import cleanup_pods
from airflow.providers.cncf.kubernetes.hooks.kubernetes import KubernetesHook
from airflow.providers.cncf.kubernetes.operators.pod import KubernetesPodOperator
from airflow.sdk.exceptions import AirflowException, AirflowFailException, TaskDeferred
from airflow.sdk.execution_time.task_runner import RuntimeTaskInstance
from kubernetes.client.models import V1ResourceRequirements

from gdi.contracts import broker_api as m
from gdi.kit.problem import ProblemError
from gdi.pods import answers as api
from gdi.pods import config, manifest
from gdi.pods.model import LauncherError
from gdi_operators.hooks.token_broker import TokenBrokerHook
from gdi_operators.kubernetes.api import Api
from gdi_operators.kubernetes.cluster_pods import ClusterPods
from gdi_operators.operators import AdmitRunOperator
from gdi_operators.operators.snakemake_pod import SnakemakePodOperator
from gdi_operators.settings import settings
from tests.support.cluster_stand_in import StandIn, container, in_cluster, now
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
    found = in_cluster(tmp_path, served.url, start_timeout=600, limits={"memory": "2Gi"})
    for name, value in {
        **made.environment,
        **found,
        "GDI_LAUNCHER": "kubernetes",
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


def analyse(item: dict[str, Any], **more: Any) -> SnakemakePodOperator:
    return SnakemakePodOperator(task_id="analyse", workflow="probe", item=item, poll=0.05, grace=5, **more)


def start(world: Clustered, operator: SnakemakePodOperator) -> TaskDeferred:
    return deferred(lambda: operator.execute(world.context(mode="ok")))


def resume(world: Clustered, operator: SnakemakePodOperator, waiting: TaskDeferred) -> dict[str, Any] | TaskDeferred:
    try:
        return operator.trigger_reentry(world.context(mode="ok"), json.loads(json.dumps(event_of(waiting))))
    except TaskDeferred as again:
        return again


def cluster_pods(world: Clustered) -> ClusterPods:
    """What an operator does with pods, by the connection and the file of this world."""
    core = KubernetesHook(conn_id="the_cluster").core_v1_client
    return ClusterPods(Api(core, "gdi-runs"), config.read(world.folder / "pods.yaml"))


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


@pytest.mark.parametrize("step", ["take", "give_files", "let_go"])
def test_a_worker_that_dies_within_a_launch_leaves_one_pod_that_the_next_takes_up(
    world: Clustered, step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    operator = analyse(admit(world))
    with monkeypatch.context() as patch:
        patch.setattr(ClusterPods, step, _die)
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
    pulling = container({"waiting": {"reason": "ImagePullBackOff", "message": "registry says: manifest unknown"}})
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
    with pytest.raises(AirflowFailException, match=r"refuses this \(403\).*Role"):
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
    operator = analyse(admit(world))
    waiting = start(world, operator)
    world.cluster.run(world.name(1))
    asyncio.run(waiting.trigger.on_kill())
    assert [(name, grace, marks[manifest.STOP]) for name, grace, marks in world.cluster.deleted] == [
        (world.name(1), 5, "cancel")
    ]
    asyncio.run(waiting.trigger.on_kill())


def test_what_a_user_ends_while_the_api_server_is_away_ends_when_it_is_back(world: Clustered) -> None:
    waiting = start(world, analyse(admit(world)))
    world.cluster.run(world.name(1))
    world.cluster.down = True

    def back() -> None:
        world.cluster.down = False

    once_turned_away(world, back)
    asyncio.run(waiting.trigger.on_kill())
    assert [name for name, _, _ in world.cluster.deleted] == [world.name(1)]


def test_a_pod_whose_machine_vanished_is_lost_and_one_that_ends_slowly_is_not(world: Clustered) -> None:
    launcher = cluster_pods(world)
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
    items = AdmitRunOperator(task_id="admit", workflow="probe").execute(world.context(mode="ok"))
    with monkeypatch.context() as patch:
        patch.setattr(ClusterPods, "let_go", _die)
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
        cluster_pods(world).get("../secrets/x")


# --- a worker, a task or a triggerer that is lost or comes twice ------------------------------------------


def test_the_providers_own_ways_to_a_pod_are_never_taken(world: Clustered, monkeypatch: pytest.MonkeyPatch) -> None:
    """They look by labels, among them a try's number, and take a stranger's pod (apache/airflow 71743)."""
    ways = (
        "find_pod",
        "get_or_create_pod",
        "log_matching_pod",
        "process_duplicate_label_pods",
        "invoke_defer_method",
        "_get_pod_from_task_state_store",
        "_persist_pod_identity_to_task_state_store",
        "trigger_reentry",
        "cleanup",
    )
    taken: list[str] = []
    for way in ways:
        monkeypatch.setattr(KubernetesPodOperator, way, lambda *_, way=way, **__: taken.append(way))
    operator = analyse(admit(world))
    waiting = start(world, operator)
    again = start(world, analyse(operator.item))  # of a worker that died
    world.cluster.end(world.name(1), 75)
    replaced = resume(world, operator, waiting)
    assert isinstance(again, TaskDeferred) and isinstance(replaced, TaskDeferred)
    world.cluster.run(world.name(2))
    operator.on_kill()
    assert world.cluster.created == [world.name(1), world.name(2)] and taken == []


def test_a_finished_pod_is_never_made_anew(world: Clustered) -> None:
    operator = analyse(admit(world))
    waiting = start(world, operator)
    world.cluster.end(world.name(1), 0)
    again = analyse(operator.item)  # the trigger's event is lost with its triggerer, and the task is executed anew
    assert again.execute(world.context(mode="ok", try_number=2, since=1)) == {
        "node": "node-a",
        "attempt": 1,
        "pod": world.name(1),
    }
    event = event_of(waiting)
    assert event["status"]["exit_code"] == 0
    world.cluster.evict(world.name(1))  # deleted by hand, or by age, between the trigger's event and the re-entry
    assert operator.trigger_reentry(world.context(mode="ok"), json.loads(json.dumps(event)))["pod"] == world.name(1)
    assert world.cluster.created == [world.name(1)]


def test_a_pod_that_failed_and_is_gone_before_the_re_entry_is_judged_by_what_its_trigger_saw(world: Clustered) -> None:
    operator = analyse(admit(world))
    waiting = start(world, operator)
    world.cluster.end(world.name(1), 1)
    event = event_of(waiting)
    world.cluster.evict(world.name(1))
    with pytest.raises(AirflowFailException, match="ended with exit code 1"):
        operator.trigger_reentry(world.context(mode="ok"), event)
    assert world.cluster.created == [world.name(1)], "a failure is not taken for a lost pod"


def test_two_tries_at_once_make_one_pod(world: Clustered) -> None:
    item = admit(world)
    at_once, ended = threading.Barrier(2), list[TaskDeferred]()

    def execute() -> None:
        operator = analyse(item)
        at_once.wait(60)
        ended.append(deferred(lambda: operator.execute(world.context(mode="ok"))))

    threads = [threading.Thread(target=execute) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    uid = world.cluster.pods[world.name(1)]["metadata"]["uid"]
    assert world.cluster.created == [world.name(1)]
    assert [w.trigger.uid for w in ended] == [uid, uid]  # type: ignore[attr-defined]


def test_a_task_that_is_dispatched_twice_waits_for_one_pod(world: Clustered) -> None:
    item = admit(world)
    first, second = start(world, analyse(item)), start(world, analyse(item))
    world.cluster.run(world.name(1))
    third = start(world, analyse(item))
    assert world.cluster.created == [world.name(1)]
    assert len({w.trigger.uid for w in (first, second, third)}) == 1  # type: ignore[attr-defined]


def test_a_worker_killed_before_the_deferral_leaves_a_pod_that_the_next_try_waits_for(
    world: Clustered, monkeypatch: pytest.MonkeyPatch
) -> None:
    item = admit(world)
    with monkeypatch.context() as patch:
        patch.setattr(SnakemakePodOperator, "invoke_defer_method", _die)
        with pytest.raises(KeyboardInterrupt):
            analyse(item).execute(world.context(mode="ok"))
    world.cluster.run(world.name(1))
    again = analyse(item)
    waiting = deferred(lambda: again.execute(world.context(mode="ok", try_number=2, since=1)))
    later(lambda: world.cluster.end(world.name(1), 0))
    assert isinstance(resume(world, again, waiting), dict) and world.cluster.created == [world.name(1)]


def test_a_task_that_is_ended_while_its_pod_is_made_leaves_none(world: Clustered) -> None:
    operator = analyse(admit(world))
    take = ClusterPods.take

    def taken(self: ClusterPods, body: Any) -> Any:
        made = take(self, body)
        operator.on_kill()
        return made

    with pytest.MonkeyPatch.context() as patch, pytest.raises(AirflowException, match="was ended while pod"):
        patch.setattr(ClusterPods, "take", taken)
        operator.execute(world.context(mode="ok"))
    assert not world.cluster.pods and world.cluster.created == [world.name(1)]


def test_what_a_user_ends_on_a_worker_is_marked_and_what_had_ended_is_kept(world: Clustered) -> None:
    operator = analyse(admit(world))
    start(world, operator)
    world.cluster.run(world.name(1))
    operator.on_kill()
    assert [(name, marks[manifest.STOP]) for name, _, marks in world.cluster.deleted] == [(world.name(1), "cancel")]
    other = analyse({**operator.item, "node": "node-b"})
    start(world, other)
    world.cluster.end(world.name(1, "node-b"), 0)
    other.on_kill()
    assert world.name(1, "node-b") in world.cluster.pods


def test_what_a_user_ends_on_a_worker_is_no_strangers_pod_that_takes_the_name_after_the_mark(
    world: Clustered, monkeypatch: pytest.MonkeyPatch
) -> None:
    operator = analyse(admit(world))
    start(world, operator)
    world.cluster.run(world.name(1))
    marked = ClusterPods.mark

    def swapped(of: ClusterPods, name: str, *arguments: Any, **more: Any) -> Any:
        status = marked(of, name, *arguments, **more)
        world.cluster.pods[name]["metadata"]["uid"] = "a-strangers"
        return status

    monkeypatch.setattr(ClusterPods, "mark", swapped)
    operator.on_kill()
    assert not world.cluster.deleted and world.name(1) in world.cluster.pods
    assert operator.client.read_namespaced_pod, "the client is the whole one again"


def test_a_triggerer_that_stalled_leaves_the_pod_to_the_one_that_has_it_now(
    world: Clustered, monkeypatch: pytest.MonkeyPatch
) -> None:
    waiting = start(world, analyse(admit(world)))
    world.cluster.run(world.name(1))
    states: dict[str, Any] = {"manual__1": {"analyse": "deferred"}}
    monkeypatch.setattr(RuntimeTaskInstance, "get_task_states", staticmethod(lambda **_: states))
    waiting.trigger.task_instance = SimpleNamespace(dag_id="probe", task_id="analyse", run_id="manual__1", map_index=-1)
    asyncio.run(waiting.trigger.on_kill())
    assert not world.cluster.deleted
    states["manual__1"]["analyse"] = "failed"
    asyncio.run(waiting.trigger.on_kill())
    assert [name for name, _, _ in world.cluster.deleted] == [world.name(1)]


def test_a_strangers_pod_of_the_same_name_is_neither_waited_for_nor_stopped(world: Clustered) -> None:
    operator = analyse(admit(world))
    waiting = start(world, operator)
    world.cluster.run(world.name(1))
    world.cluster.pods[world.name(1)]["metadata"]["uid"] = "a-strangers"
    world.cluster.end(world.name(1), 0)
    asyncio.run(waiting.trigger.on_kill())
    assert not world.cluster.deleted
    event = event_of(waiting)
    assert event["kind"] == "gone" and event["status"] is None
    with pytest.raises(AirflowFailException, match="uid-pinned"):
        world.cluster.run(world.name(1))
        analyse(operator.item).execute(world.context(mode="ok"))
    assert not world.cluster.deleted, "the broker knows another uid by this name: it is not ours to stop"


@pytest.mark.parametrize("taken", [False, True])
def test_a_pod_that_the_broker_refuses_is_stopped_and_a_strangers_that_took_its_name_is_not(
    world: Clustered, taken: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    operator, put = analyse(admit(world)), TokenBrokerHook.put_workload

    def fenced(hook: TokenBrokerHook, run: str, pod: str, request: m.WorkloadRequest) -> m.Workload:
        if request.uid is None:
            return put(hook, run, pod, request)
        if taken:
            world.cluster.pods[pod]["metadata"]["uid"] = "a-strangers"
        raise ProblemError(409, "workload-fenced", "a later pod took over")

    monkeypatch.setattr(TokenBrokerHook, "put_workload", fenced)
    with pytest.raises(AirflowFailException, match="a later pod took over"):
        operator.execute(world.context(mode="ok"))
    assert [name for name, _, _ in world.cluster.deleted] == ([] if taken else [world.name(1)])


def test_a_strangers_pod_that_took_the_name_between_two_calls_is_neither_marked_nor_deleted(
    world: Clustered, monkeypatch: pytest.MonkeyPatch
) -> None:
    waiting = start(world, analyse(admit(world)))
    world.cluster.run(world.name(1))
    pods, read = cluster_pods(world), ClusterPods.read

    def swapped(of: ClusterPods, name: str) -> Any:
        seen = json.loads(json.dumps(read(of, name)))
        world.cluster.pods[name]["metadata"]["uid"] = "a-strangers"
        return seen

    monkeypatch.setattr(ClusterPods, "read", swapped)
    pods.stop(world.name(1), mode="cancel", grace=1, uid=waiting.trigger.uid)
    assert not world.cluster.deleted
    assert manifest.STOP not in world.cluster.pods[world.name(1)]["metadata"]["annotations"]


@pytest.mark.parametrize("minutes", [0, 30])
def test_cleanup_pods_in_the_middle_costs_no_result(
    world: Clustered, minutes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    operator = analyse(admit(world))
    waiting = start(world, operator)
    world.cluster.end(world.name(1), 0)
    old = world.cluster.pods[world.name(1)]
    old["status"]["containerStatuses"][0]["state"]["terminated"]["finishedAt"] = "2020-01-01T00:00:00Z"
    airflows = json.loads(json.dumps(old))
    airflows["metadata"].update(name="of-airflow", labels={**old["metadata"]["labels"], "try_number": "1"})
    world.cluster.pods["of-airflow"] = airflows
    core = KubernetesHook(conn_id="the_cluster").core_v1_client
    monkeypatch.setattr("airflow.providers.cncf.kubernetes.cli.kubernetes_command.get_kube_client", lambda: core)
    inspect.unwrap(cleanup_pods)(
        SimpleNamespace(namespace="gdi-runs", min_pending_minutes=5, min_completed_minutes=minutes, verbose=False)
    )
    assert list(world.cluster.pods) == [world.name(1)], "it takes the pods that carry a try's number, and not ours"
    assert isinstance(resume(world, operator, waiting), dict) and world.cluster.created == [world.name(1)]


def test_execution_timeout_is_a_deadline_of_the_trigger(world: Clustered) -> None:
    operator = analyse(admit(world), execution_timeout=timedelta(seconds=1))
    waiting = start(world, operator)
    world.cluster.run(world.name(1))
    assert waiting.timeout is not None and waiting.timeout > timedelta(seconds=30), "Airflow's own is the second"
    with pytest.raises(AirflowFailException, match="did not end within 0:00:01"):
        resume(world, operator, waiting)
    assert [name for name, _, _ in world.cluster.deleted] == [world.name(1)]


def test_two_clusters_are_followed_in_one_triggerer_at_once(world: Clustered, monkeypatch: pytest.MonkeyPatch) -> None:
    other = StandIn()
    served = Served(other.app())
    try:
        kubeconfig = json.loads((world.folder / "kubeconfig").read_text())
        kubeconfig["clusters"][0]["cluster"]["server"] = served.url
        (world.folder / "kubeconfig-2").write_text(json.dumps(kubeconfig))
        extra = {"kube_config_path": str(world.folder / "kubeconfig-2")}
        monkeypatch.setenv("AIRFLOW_CONN_THE_OTHER", json.dumps({"conn_type": "kubernetes", "extra": extra}))
        world.allow(nodes={"node-b": {"conn_id": "the_other"}})
        items = AdmitRunOperator(task_id="admit", workflow="probe").execute(world.context(mode="ok"))
        waiting = [start(world, analyse(item)) for item in items]
        assert world.cluster.created == [world.name(1)] and other.created == [world.name(1, "node-b")]
        world.cluster.end(world.name(1), 0)
        other.end(world.name(1, "node-b"), 1)

        async def both() -> list[dict[str, Any]]:
            async def first(trigger: Any) -> dict[str, Any]:
                async for event in trigger.run():
                    return dict(event.payload)
                raise AssertionError("no event")

            return list(await asyncio.gather(*(first(w.trigger) for w in waiting)))

        assert [event["status"]["exit_code"] for event in asyncio.run(both())] == [0, 1]
    finally:
        served.stop()


def test_the_pod_is_the_providers_too_and_what_a_dag_may_say_is_in_it(world: Clustered) -> None:
    operator = analyse(admit(world), labels={"team": "blue"}, container_resources=resources(cpu="700m"))
    start(world, operator)
    pod = world.cluster.pods[world.name(1)]
    labels = pod["metadata"]["labels"]
    assert labels["team"] == "blue" and labels["task_id"] == "close" and labels["kubernetes_pod_operator"] == "True"
    assert "try_number" not in labels and labels["gdi-run"] == world.run
    assert pod["spec"]["containers"][0]["resources"]["requests"]["cpu"] == "700m"
    with pytest.raises(AirflowFailException, match=r"set spec\.containers\.image, spec\.hostNetwork, which only"):
        analyse({**operator.item, "node": "node-b"}, hostnetwork=True, image="x").execute(world.context(mode="ok"))
    assert world.cluster.created == [world.name(1)]


def resources(**requests: str) -> V1ResourceRequirements:
    return V1ResourceRequirements(requests=requests)
