"""SnakemakePodOperator in a real Airflow with real pods: its example DAG, a worker killed, a triggerer stopped and one
killed, a task cleared while its trigger runs, one triggerer for two clusters. No pod is made twice, none is stopped
that is still wanted.
"""

from __future__ import annotations

import copy
import json
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from gdi.contracts.ids import make_run_id
from tests.kubernetes import images
from tests.kubernetes.cluster import ROOT, Cluster, until
from tests.kubernetes.door import Door
from tests.kubernetes.launcher_kit import RUNS, airflows_rights, as_airflow, kubeconfig
from tests.kubernetes.parts import API
from tests.kubernetes.pod_operator_kit import PodWorld, airflow_environment, allowed, probe_image
from tests.support.airflow_kit import COMPONENTS, RealAirflow, wait_for
from tests.support.debian import program
from tests.support.operators_world import TICKET
from tests.support.postgres_kit import running_postgres
from tests.support.redis_kit import Redis

pytestmark = pytest.mark.timeout(900)
EXAMPLE, KILLED = "example_snakemake_pod", "killed_worker"
NODES = ("node-a", "node-b")
QUIET = {"GDI_RECURRING_SCHEDULE": "", "GDI_HOUSEKEEPING_SCHEDULE": ""}
STOPPED = 60  # seconds; a triggerer is taken for lost after 10 (RealAirflow)


@dataclass
class Centre:
    """An Airflow and what its operators find."""

    world: PodWorld
    airflow: RealAirflow
    second: Path  # the kubeconfig of the connection `second`, where a test has such a cluster

    def begin(self, dag: str, run: str, **parameters: Any) -> None:
        """From here on the world's pods are that run's."""
        self.dag, self.world.dag_run = dag, run
        conf = {"ticket": TICKET, "datasets": ["DS-A", "DS-B"], **parameters}
        self.airflow.trigger(dag, conf, run)

    def name(self, node: str, generation: int = 1, attempt: int = 1) -> str:
        return f"{make_run_id(self.dag, self.world.dag_run)}-{node}-{attempt}-{generation}"

    def waiting(self, attempt: int = 1, generation: int = 1) -> dict[str, str]:
        """{pod: uid} once every node's pod runs and is waited for by a trigger."""
        names = [self.name(node, generation, attempt) for node in NODES]
        for name in names:
            until(f"{name} is made", lambda name=name: self.world.pod(name), 240, why=self.told)  # type: ignore[misc]
            self.world.running(name)
        deferred: dict[str, str | None] = {f"analyse[{n}]": "deferred" for n in range(len(NODES))}
        self.airflow.wait_states(self.dag, self.world.dag_run, deferred, timeout=120)
        return {name: self.world.uid(name) for name in names}

    def told(self) -> str:
        return str(self.airflow.states(self.dag, self.world.dag_run))

    def unharmed(self, pods: dict[str, str]) -> None:
        """They run on, under the same uid, and nobody has asked them to stop."""
        for name, uid in pods.items():
            meta = self.world.pod(name).get("metadata", {})
            assert meta.get("uid") == uid and "deletionTimestamp" not in meta, self.world.story(name)

    def finish(self, pods: dict[str, str]) -> None:
        for name in pods:
            self.world.end(name)
        assert self.airflow.finish(self.dag, self.world.dag_run, timeout=240) == "success", self.told()

    def made(self) -> list[str]:
        run = make_run_id(self.dag, self.world.dag_run)
        return sorted({name for name, _ in self.world.broker.workloads if name.startswith(run)})

    def triggerers(self) -> set[int]:
        """The ids of the triggerers' jobs that have the tasks' triggers."""
        found = self.airflow.instances(self.dag, self.world.dag_run)
        return {int(t["triggerer_job"]["id"]) for t in found if t.get("triggerer_job") and t["state"] == "deferred"}

    def log(self, number: int = 1) -> str:
        return self.airflow.log(self.dag, self.world.dag_run, "analyse", number=number, map_index=0)


@pytest.fixture(
    scope="module",
    params=["LocalExecutor", pytest.param("CeleryExecutor", marks=pytest.mark.kubernetes_long)],
)
def centre(
    request: pytest.FixtureRequest, cluster: Cluster, broker_image: None, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Centre]:
    celery = request.param == "CeleryExecutor"
    folder = tmp_path_factory.mktemp("pods-in-airflow")
    airflows_rights(cluster)
    # Those of the other executor, whose runs had the same names.
    cluster.kubectl("delete", "pods", "-n", RUNS, "--all", timeout=120)
    probe_image(cluster, tmp_path_factory.mktemp("probe"))
    dags = folder / "dags"
    shutil.copytree(ROOT / "plugins" / "gdi_operators" / "example_dags", dags)
    for other in dags.glob("*.py"):
        if other.stem != EXAMPLE:
            other.unlink()
    shutil.copy(ROOT / "tests" / "kubernetes" / "killed_worker_dag.py", dags)
    with (
        pytest.MonkeyPatch.context() as patch,
        as_airflow(cluster, folder, patch),
        running_postgres() as postgres,
    ):
        redis = Redis(program("redis-server")) if celery else None
        if redis is not None:
            redis.start()
        world = PodWorld(folder / "world", cluster, "none")
        extra = {"kube_config_path": str(folder / "kubeconfig-2"), "namespace": RUNS}
        patch.setenv("AIRFLOW_CONN_SECOND", json.dumps({"conn_type": "kubernetes", "extra": extra}))
        airflow = RealAirflow(
            folder / "airflow",
            {**world.environment, **airflow_environment(), **QUIET, "GDI_EXAMPLE_WORKFLOW": "probe"},
            dags=dags,
            executor=request.param,
            queue=redis.url if redis is not None else "",
            database=f"postgresql://gdi:{postgres.password}@127.0.0.1:{postgres.port}/{postgres.database('airflow')}",
        )
        try:
            airflow.start(*COMPONENTS, *(["worker-1"] if celery else []))
            wait_for("the DAGs", lambda: all(airflow.has_dag(name) for name in (EXAMPLE, KILLED)), timeout=150)
            yield Centre(world, airflow, folder / "kubeconfig-2")
        finally:
            airflow.close()
            world.close()
            if redis is not None:
                redis.stop()


def test_the_example_dag_runs_a_pod_at_each_node(centre: Centre) -> None:
    centre.begin(EXAMPLE, "example", mode="sleep", seconds=2)
    assert centre.airflow.finish(EXAMPLE, "example", timeout=300) == "success", centre.told()
    assert centre.made() == [centre.name(node) for node in NODES]
    for name in centre.made():
        pod = centre.world.pod(name)
        assert pod["status"]["phase"] == "Succeeded" and pod["metadata"]["labels"]["team"] == "genomics"
        assert centre.world.pinned(name) == {pod["metadata"]["uid"]}
    assert "node-a | done" in centre.log()


def test_a_worker_killed_between_the_creation_and_the_deferral_costs_a_try_and_no_pod(centre: Centre) -> None:
    centre.begin(KILLED, "killed", mode="sleep", seconds=600)
    pods = centre.waiting()
    assert centre.airflow.tries(KILLED, "killed", "analyse", 0) == 2
    centre.finish(pods)
    assert centre.made() == sorted(pods) and "is running already; waiting for it" in centre.log(number=2)


def test_a_task_that_is_cleared_while_its_trigger_runs_has_one_pod_at_a_time(centre: Centre) -> None:
    centre.begin(EXAMPLE, "cleared", mode="sleep", seconds=600)
    first = centre.waiting()
    centre.airflow.clear(EXAMPLE, "cleared", ["analyse"], downstream=True)

    def again() -> bool:
        states = centre.airflow.states(EXAMPLE, "cleared")
        tries = {centre.airflow.tries(EXAMPLE, "cleared", "analyse", n) for n in range(2)}
        return tries == {2} and all(states[f"analyse[{n}]"] == "deferred" for n in range(2))

    until("the new tries wait", again, 240, every=0.5, why=centre.told)
    newest: dict[str, str] = {}

    def settled() -> bool:
        """Each node has one pod that runs and that nobody has asked to stop."""
        newest.clear()
        for node in NODES:
            mine = [centre.name(node, g) for g in (1, 2) if centre.world.pod(centre.name(node, g))]
            wanted = [n for n in mine if "deletionTimestamp" not in centre.world.pod(n).get("metadata", {})]
            if len(mine) != 1 or mine != wanted:
                return False
            newest[mine[0]] = centre.world.uid(mine[0])
        return True

    until("one pod each", settled, 120, every=0.5, why=lambda: str(centre.world.names()))
    for name in newest:
        centre.world.running(name)
    centre.unharmed(newest)
    centre.finish(newest)
    assert set(centre.made()) == {*first, *newest}


def test_a_triggerer_that_stands_still_for_a_minute_and_one_that_is_killed_stop_no_pod(centre: Centre) -> None:
    centre.begin(EXAMPLE, "stalled", mode="sleep", seconds=900)
    pods = centre.waiting()
    until("one triggerer has both", lambda: len(centre.triggerers()) == 1, 60)
    (first,) = centre.triggerers()
    centre.airflow.launch("triggerer-2")
    stopped = centre.airflow.tree("triggerer")
    for process in stopped:
        process.suspend()
    try:
        began = time.monotonic()
        until("the other has them", lambda: (found := centre.triggerers()) and first not in found, 120, every=1)
        time.sleep(max(0.0, STOPPED - (time.monotonic() - began)))  # the time itself is what is asked for
    finally:
        for process in stopped:
            process.resume()
    # The first is told now to end triggers that it has no more (airflow 73454).
    text = "it is left alone"
    until("it has heard", lambda: text in (centre.airflow.folder / "triggerer.log").read_text() or _told(centre), 90)
    centre.unharmed(pods)
    centre.airflow.kill("triggerer-2")
    until("the first has them again", lambda: centre.triggerers() == {first} or centre.triggerers(), 120, every=1)
    centre.unharmed(pods)
    centre.finish(pods)
    assert centre.made() == sorted(pods)


def test_one_triggerer_follows_the_pods_of_two_clusters(centre: Centre, tmp_path: Path) -> None:
    with Cluster() as second:
        second.load(images.archive_of("broker"))
        airflows_rights(second)
        probe_image(second, tmp_path / "probe")
        token = second.kubectl("create", "token", "airflow", "-n", "gdi").strip()
        with Door(second, API, 6443) as other:
            kubeconfig(second, centre.second, f"https://127.0.0.1:{other.port}", token)
            allowed(centre.world.folder / "pods.yaml", nodes={"node-b": {"conn_id": "second"}})
            try:
                centre.begin(EXAMPLE, "two", mode="sleep", seconds=900)
                there = copy.copy(centre.world)
                there.cluster = second
                places = {centre.name("node-a"): centre.world, centre.name("node-b"): there}
                for name, world in places.items():
                    until(f"{name} is made", lambda name=name, world=world: world.pod(name), 240, why=centre.told)  # type: ignore[misc]
                    world.running(name)
                first_pod, second_pod = places
                assert not there.pod(first_pod) and not centre.world.pod(second_pod), "each in its own cluster only"
                until("one triggerer has both", lambda: len(centre.triggerers()) == 1, 60, why=centre.told)
                for name, world in places.items():
                    world.end(name)
                assert centre.airflow.finish(EXAMPLE, "two", timeout=240) == "success", centre.told()
                assert centre.made() == sorted(places) and "node-a | done" in centre.log()
            finally:
                allowed(centre.world.folder / "pods.yaml")


def _told(centre: Centre) -> bool:
    """Whether the trigger says in its task's log that it leaves the pod alone."""
    return "it is left alone" in centre.log()
