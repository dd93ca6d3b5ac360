"""SnakemakePodOperator and its trigger over real pods: what a worker, a triggerer or a person does at the wrong moment
makes no second pod, stops none, and loses no result.
"""

from __future__ import annotations

import asyncio
import inspect
import itertools
import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.providers.cncf.kubernetes.cli.definition import KUBERNETES_COMMANDS
from airflow.providers.cncf.kubernetes.cli.kubernetes_command import cleanup_pods
from airflow.providers.cncf.kubernetes.hooks.kubernetes import KubernetesHook
from airflow.sdk.exceptions import AirflowException, AirflowFailException, TaskDeferred

from gdi.pods import manifest
from gdi.pods.answers import AbsentError
from gdi.pods.stopping import deletion, mark
from gdi_operators.kubernetes.api import Api
from gdi_operators.kubernetes.cluster_pods import ClusterPods
from gdi_operators.operators.snakemake_pod import SnakemakePodOperator
from gdi_operators.settings import settings
from tests.kubernetes.cluster import Cluster, until
from tests.kubernetes.door import Door
from tests.kubernetes.launcher_kit import CONNECTION, RUNS, airflows_rights, as_airflow
from tests.kubernetes.parts import API
from tests.kubernetes.pod_operator_kit import PodWorld, allowed, analyse, environment, probe_image
from tests.support.operators_flow import event_of

MINUTE = 65  # seconds: the command leaves what ended within the last minute, unless it is told otherwise
_numbers = itertools.count(1)


@pytest.fixture(scope="module")
def door(cluster: Cluster, broker_image: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Door]:
    airflows_rights(cluster)
    probe_image(cluster, tmp_path_factory.mktemp("probe"))
    folder = tmp_path_factory.mktemp("airflow")
    with pytest.MonkeyPatch.context() as patch, as_airflow(cluster, folder, patch) as made:
        yield made


@pytest.fixture
def world(cluster: Cluster, door: Door, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[PodWorld]:
    made = PodWorld(tmp_path, cluster, f"operator__{next(_numbers)}")
    environment(made, monkeypatch)
    settings.cache_clear()
    yield made
    made.close()
    settings.cache_clear()
    cluster.kubectl("delete", "pods", "-n", RUNS, "-l", f"gdi-run={made.run}", "--grace-period=0", "--force")


def _die(*_: Any, **__: Any) -> None:
    raise KeyboardInterrupt


def test_a_pods_uid_is_pinned_before_it_can_have_a_token_and_a_finished_pod_is_never_made_anew(
    world: PodWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    item = world.admit(mode="exit")
    name, seen = world.name(1), []
    let_go = ClusterPods.let_go

    def watched(self: ClusterPods, of: str) -> Any:
        pod = world.pod(of)
        seen.append((pod["spec"]["schedulingGates"], pod["spec"].get("nodeName"), world.pinned(of)))
        return let_go(self, of)

    monkeypatch.setattr(ClusterPods, "let_go", watched)
    operator = analyse(item)
    waiting = world.execute(operator)
    uid = world.uid(name)
    assert seen == [([{"name": manifest.GATE}], None, {uid})], "no machine had it, so that nobody had its token"
    event = event_of(waiting)
    claims = json.loads(world.log(name).splitlines()[0])
    assert claims["pod"] == {"name": name, "uid": uid} and claims["aud"] == ["token-broker"]
    done = {"node": "node-a", "attempt": 1, "pod": name}
    again = analyse(item)  # the event is lost with its triggerer, and the task is executed anew
    assert again.execute(world.context(mode="exit", try_number=2, since=1)) == done
    world.delete(name)  # by hand, or by age, between the trigger's event and the re-entry
    assert world.resume(operator, event) == done
    assert world.made() == [name] and not world.names()


def test_a_pod_that_failed_and_is_gone_before_the_re_entry_is_judged_by_what_its_trigger_saw(world: PodWorld) -> None:
    operator = analyse(world.admit(mode="exit", code=3))
    event = event_of(world.execute(operator))
    world.delete(world.name(1))
    with pytest.raises(AirflowFailException, match="ended with exit code 3"):
        world.resume(operator, event)
    assert world.made() == [world.name(1)], "a failure is not taken for a lost pod"


def test_two_tries_at_once_and_a_task_that_is_dispatched_twice_make_one_pod(world: PodWorld) -> None:
    item = world.admit(mode="sleep", seconds=300)
    at_once, waiting = threading.Barrier(2), list[TaskDeferred]()

    def execute() -> None:
        operator = analyse(item)
        at_once.wait(60)
        waiting.append(world.execute(operator))

    threads = [threading.Thread(target=execute) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    world.running(world.name(1))
    waiting.append(world.execute(analyse(item)))  # the same task again, whose pod runs
    uid = world.uid(world.name(1))
    assert [w.trigger.uid for w in waiting] == [uid] * 3
    assert world.names() == world.made() == [world.name(1)] and world.pinned(world.name(1)) == {uid}
    world.end(world.name(1))
    assert isinstance(world.resume(analyse(item), waiting[-1]), dict)


@pytest.mark.parametrize("step", ["take", "give_files", "let_go", "invoke_defer_method"])
def test_a_worker_that_dies_between_the_creation_and_the_deferral_leaves_one_pod_that_the_next_takes_up(
    world: PodWorld, step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    item = world.admit(mode="sleep", seconds=300)
    with monkeypatch.context() as patch:
        patch.setattr(SnakemakePodOperator if step == "invoke_defer_method" else ClusterPods, step, _die)
        with pytest.raises(KeyboardInterrupt):
            analyse(item).execute(world.context(**world.parameters))
    held = [world.pod(name)["spec"].get("schedulingGates") for name in world.names()]
    if step != "invoke_defer_method":
        assert all(held), "nothing runs before it is pinned"
    again = analyse(item)
    waiting = world.execute(again, try_number=2, since=1)
    world.running(world.name(1))
    world.end(world.name(1))
    assert isinstance(world.resume(again, waiting), dict)
    assert world.made() == world.names() == [world.name(1)] and len(world.pinned(world.name(1))) == 1


def test_a_pod_that_is_deleted_by_hand_hands_over_and_is_replaced_under_another_name(world: PodWorld) -> None:
    operator = analyse(world.admit(mode="sleep", seconds=300))
    waiting = world.execute(operator)
    world.running(world.name(1))
    world.delete(world.name(1), "--wait=false")
    second = world.resume(operator, waiting)
    assert isinstance(second, TaskDeferred) and world.made() == [world.name(1), world.name(2)]
    world.running(world.name(2))
    world.delete(world.name(2), "--grace-period=0", "--force")  # as with a machine that is gone
    third = world.resume(operator, second)
    assert isinstance(third, TaskDeferred)
    world.running(world.name(3))
    world.end(world.name(3))
    assert world.resume(operator, third) == {"node": "node-a", "attempt": 1, "pod": world.name(3)}
    assert world.made() == [world.name(n) for n in (1, 2, 3)] and world.name(1) not in world.names()


def test_a_strangers_pod_of_the_name_is_not_taken_not_waited_for_and_not_stopped(world: PodWorld) -> None:
    item = world.admit(mode="sleep", seconds=300)
    foreign = _stranger(world.name(1), {"app.kubernetes.io/name": "other"})
    world.cluster.apply([foreign])
    with pytest.raises(AirflowFailException, match="exists and was asked to do something else"):
        analyse(item).execute(world.context(**world.parameters))
    assert not world.pinned(world.name(1)) and world.pod(world.name(1))["spec"]["schedulingGates"]


def test_a_pod_that_took_the_name_of_one_that_is_watched_is_another(world: PodWorld) -> None:
    operator = analyse(world.admit(mode="sleep", seconds=300))
    waiting = world.execute(operator)
    world.running(world.name(1))
    real = world.pod(world.name(1))
    world.delete(world.name(1), "--grace-period=0", "--force")
    meta = real["metadata"]
    world.cluster.apply([_stranger(world.name(1), meta["labels"], meta["annotations"])])
    asyncio.run(waiting.trigger.on_kill())
    assert "deletionTimestamp" not in world.pod(world.name(1))["metadata"], "a user's stop does not reach it"
    event = event_of(waiting)
    assert event["kind"] == "gone" and event["status"] is None
    with pytest.raises(AirflowFailException, match="is pinned to another uid"):
        analyse(operator.item).execute(world.context(try_number=2, since=1, **world.parameters))
    api = Api(KubernetesHook(conn_id=CONNECTION).core_v1_client, RUNS)
    with pytest.raises(AbsentError):  # the real server's word on the mark, and on the deletion
        api.patch_pod(world.name(1), mark("cancel", waiting.trigger.uid))
    with pytest.raises(AbsentError):
        api.delete_pod(world.name(1), deletion(waiting.trigger.uid, 1))
    left = world.pod(world.name(1))["metadata"]
    assert "deletionTimestamp" not in left and manifest.STOP not in left["annotations"], "nor does the broker's refusal"


def _stranger(name: str, labels: dict[str, str], annotations: dict[str, str] | None = None) -> dict[str, Any]:
    """A pod that somebody else made; held, so that it costs nothing."""
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": RUNS, "labels": labels, "annotations": annotations or {}},
        "spec": {
            "schedulingGates": [{"name": manifest.GATE}],
            "automountServiceAccountToken": False,
            "securityContext": {
                "runAsNonRoot": True,
                "runAsUser": 10001,
                "seccompProfile": {"type": "RuntimeDefault"},
            },
            "containers": [
                {
                    "name": manifest.CONTAINER,
                    "image": "stranger",
                    "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
                }
            ],
        },
    }


@pytest.mark.parametrize(
    "options",
    [
        pytest.param([], id="after-its-minute", marks=pytest.mark.kubernetes_long),
        pytest.param(["--min-completed-minutes", "0"], id="at-once"),
    ],
)
def test_cleanup_pods_in_the_middle_costs_no_result(
    world: PodWorld, options: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    operator = analyse(world.admit(mode="exit"))
    waiting = world.execute(operator)
    world.ended(world.name(1))
    theirs = {"dag_id": "d", "task_id": "t", "try_number": "1", "airflow_version": "3", "gdi-run": world.run}
    of_airflow = _stranger("of-airflow", theirs)
    del of_airflow["spec"]["schedulingGates"]
    of_airflow["spec"]["containers"][0] |= {
        "image": world.pod(world.name(1))["spec"]["containers"][0]["image"],
        "imagePullPolicy": "Never",
        "command": ["true"],
    }
    of_airflow["spec"]["restartPolicy"] = "Never"
    world.cluster.apply([of_airflow])
    world.ended("of-airflow")
    core = KubernetesHook(conn_id=CONNECTION).core_v1_client
    monkeypatch.setattr("airflow.providers.cncf.kubernetes.cli.kubernetes_command.get_kube_client", lambda: core)
    if not options:
        time.sleep(MINUTE)  # the age itself is what is asked for
    inspect.unwrap(cleanup_pods)(_arguments("--namespace", RUNS, *options))
    assert world.names() == [world.name(1)], "it takes the pods that carry a try's number, and not ours"
    assert isinstance(world.resume(operator, waiting), dict) and world.made() == [world.name(1)]


def _arguments(*words: str) -> Any:  # argparse.Namespace
    """What `airflow kubernetes cleanup-pods` makes of its words."""
    import argparse

    (command,) = [c for c in KUBERNETES_COMMANDS if c.name == "cleanup-pods"]
    parser = argparse.ArgumentParser()
    for argument in command.args:
        argument.add_to_parser(parser)
    return parser.parse_args(list(words))


def test_what_a_user_ends_is_marked_before_it_is_deleted_from_a_worker_and_from_a_trigger(world: PodWorld) -> None:
    items = world.admit(mode="sleep", seconds=300)
    on_worker, by_trigger = analyse(items), analyse({**items, "node": "node-b"})
    world.execute(on_worker)
    waiting = world.execute(by_trigger)
    names = world.name(1), world.name(1, "node-b")
    for name in names:
        world.running(name)
    on_worker.on_kill()
    asyncio.run(waiting.trigger.on_kill())
    marks = [world.pod(name).get("metadata", {}).get("annotations", {}).get(manifest.STOP) for name in names]
    assert set(marks) <= {"cancel", None}, "marked, or gone by now"
    until("both are gone", lambda: not world.names(), 60)
    other = analyse({**items, "node": "node-a"})
    assert isinstance(world.execute(other, try_number=2, since=1), TaskDeferred)
    assert world.name(1) in world.made() and world.name(2) in world.made(), "its name is used up"


def test_a_triggerer_that_stalled_leaves_the_pod_to_the_one_that_has_it_now(
    world: PodWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    from airflow.sdk.execution_time.task_runner import RuntimeTaskInstance

    operator = analyse(world.admit(mode="sleep", seconds=300))
    waiting = world.execute(operator)
    world.running(world.name(1))
    states: dict[str, Any] = {world.dag_run: {"analyse": "deferred"}}
    monkeypatch.setattr(RuntimeTaskInstance, "get_task_states", staticmethod(lambda **_: states))
    waiting.trigger.task_instance = SimpleNamespace(
        dag_id="probe", task_id="analyse", run_id=world.dag_run, map_index=-1
    )
    asyncio.run(waiting.trigger.on_kill())
    assert "deletionTimestamp" not in world.pod(world.name(1))["metadata"]
    world.end(world.name(1))
    assert isinstance(world.resume(operator, waiting), dict)


@pytest.mark.kubernetes_long  # a cluster that hangs for a minute
def test_an_api_server_that_hangs_for_a_minute_is_waited_out_by_who_starts_and_who_waits(world: PodWorld) -> None:
    operator = analyse(world.admit(mode="sleep", seconds=20))
    waiting = world.execute(operator)
    world.running(world.name(1))
    events, other = list[dict[str, Any]](), analyse({**operator.item, "node": "node-b"})
    started = list[TaskDeferred]()
    follower = threading.Thread(target=lambda: events.append(event_of(waiting)))
    starter = threading.Thread(target=lambda: started.append(world.execute(other)))
    follower.start()
    with world.cluster.frozen("kube-apiserver"):
        starter.start()
        starter.join(60)
        assert not started and not events
    for thread in (starter, follower):
        thread.join(180)
    assert world.resume(operator, events[0]) == {"node": "node-a", "attempt": 1, "pod": world.name(1)}
    assert isinstance(started[0], TaskDeferred)
    assert isinstance(world.resume(other, started[0]), dict)
    assert world.made() == [world.name(1), world.name(1, "node-b")]


@pytest.mark.kubernetes_long  # a second cluster
def test_pods_of_two_clusters_are_followed_in_one_triggerer_at_once(
    world: PodWorld, door: Door, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tests.kubernetes import images
    from tests.kubernetes.launcher_kit import kubeconfig

    with Cluster() as second:
        second.load(images.archive_of("broker"))
        airflows_rights(second)
        probe_image(second, tmp_path / "probe")
        token = second.kubectl("create", "token", "airflow", "-n", "gdi").strip()
        with Door(second, API, 6443) as other:
            path = kubeconfig(second, tmp_path / "kubeconfig-2", f"https://127.0.0.1:{other.port}", token)
            extra = {"kube_config_path": str(path), "namespace": RUNS}
            monkeypatch.setenv("AIRFLOW_CONN_SECOND", json.dumps({"conn_type": "kubernetes", "extra": extra}))
            allowed(world.folder / "pods.yaml", nodes={"node-b": {"conn_id": "second"}})
            item = world.admit(mode="exit", code=0)
            operators = [analyse(item), analyse({**item, "node": "node-b"})]
            waiting = [world.execute(operator) for operator in operators]
            assert world.names() == [world.name(1)] and second.get("pod", world.name(1, "node-b"), RUNS)

            async def both() -> list[dict[str, Any]]:
                async def first(trigger: Any) -> dict[str, Any]:
                    async with asyncio.timeout(180):
                        async for event in trigger.run():
                            return dict(event.payload)
                    raise AssertionError("no event")

                return list(await asyncio.gather(*(first(w.trigger) for w in waiting)))

            events = asyncio.run(both())
            assert [event["status"]["exit_code"] for event in events] == [0, 0]
            assert [world.resume(o, e) for o, e in zip(operators, events, strict=True)] == [
                {"node": node, "attempt": 1, "pod": world.name(1, node)} for node in ("node-a", "node-b")
            ]


def test_a_task_that_is_ended_while_its_pod_is_made_leaves_none(
    world: PodWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    operator = analyse(world.admit(mode="sleep", seconds=300))
    take = ClusterPods.take

    def taken(self: ClusterPods, body: Any) -> Any:
        made = take(self, body)
        operator.on_kill()
        return made

    monkeypatch.setattr(ClusterPods, "take", taken)
    with pytest.raises(AirflowException, match="was ended while pod"):
        operator.execute(world.context(**world.parameters))
    until("it is gone", lambda: not world.names(), 120)
    assert world.made() == [world.name(1)]
