"""The same DAG under LocalExecutor and under CeleryExecutor with two workers, on PostgreSQL: a worker is killed amid
four runs, and nobody notices.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass

import psutil
import pytest
import yaml

from gdi.contracts.ids import make_run_id
from gdi.runner.sandbox import why_not
from tests.support.airflow_kit import COMPONENTS, PROJECT, RealAirflow, RulesWorld, wait_for
from tests.support.operators_world import TICKET
from tests.support.postgres_kit import Postgres
from tests.support.redis_kit import Redis

pytestmark = [
    pytest.mark.system,
    pytest.mark.xdist_group("executors"),
    pytest.mark.timeout(1500),
    pytest.mark.skipif(why_not() is not None, reason=f"no sandboxes here: {why_not()}"),
]
RUNS = tuple(f"run-{n}" for n in range(4))
RULES = ("one", "two")
QUIET = {"GDI_RECURRING_SCHEDULE": "", "GDI_HOUSEKEEPING_SCHEDULE": ""}
WORKERS = ("worker-1", "worker-2")


@dataclass
class Story:
    """What is left when all runs have ended."""

    world: RulesWorld
    airflow: RealAirflow
    postgres: Postgres
    database: str
    redis: Redis | None
    identities: set[str]  # the tokens by which the broker knew this Airflow
    ended: dict[str, str]
    killed: tuple[str, str]  # the run and the task instance's id that were on the worker


@pytest.fixture(scope="module", params=["LocalExecutor", "CeleryExecutor"])
def story(
    request: pytest.FixtureRequest, postgres: Postgres, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Story]:
    celery = request.param == "CeleryExecutor"
    redis: Redis | None = request.getfixturevalue("redis_server") if celery else None
    world = RulesWorld(tmp_path_factory.mktemp(request.param), rules=RULES)
    world.start_host()
    identities = {(world.folder / "airflow-token").read_text()}
    database = postgres.database("airflow")
    airflow = RealAirflow(
        world.folder / "airflow",
        world.environment,
        executor=request.param,
        queue=redis.url if redis else "",
        database=f"postgresql://gdi:{postgres.password}@127.0.0.1:{postgres.port}/{database}",
        **QUIET,
        **of_production(),
    )
    try:
        airflow.start(*COMPONENTS, *(WORKERS if celery else ()))
        wait_for("the DAG", lambda: airflow.has_dag("probe"), timeout=120)
        world.broker.held |= {
            make_run_id("probe", name) for name in RUNS
        }  # a step waits for its run before it starts a pod: so the kill meets one
        for name in RUNS:
            airflow.trigger("probe", world.conf("slow", 3600), name)
        killed = kill_a_worker(airflow, celery)
        world.broker.held.clear()
        wait_for("every run's pods", lambda: all(len(running(world, name)) == 2 for name in RUNS), timeout=500, every=1)
        for name in RUNS:
            world.broker.all_done(make_run_id("probe", name), 1, *RULES)
            world.end_pods(make_run_id("probe", name))
        ended = {name: airflow.finish("probe", name, timeout=500) for name in RUNS}
        print_connections(airflow, postgres, database)
        identities.add((world.folder / "airflow-token").read_text())
        yield Story(world, airflow, postgres, database, redis, identities, ended, killed)
    finally:
        try:
            airflow.close()
        finally:
            world.close()


def of_production() -> dict[str, str]:
    """What the values for Airflow's chart say about lost workers, as Airflow's environment."""
    config = yaml.safe_load((PROJECT / "charts" / "gdi" / "values-airflow.yaml").read_text())["config"]
    wanted = {
        "scheduler": ["task_instance_heartbeat_timeout"],
        "celery": ["operation_timeout"],
        "celery_broker_transport_options": ["visibility_timeout"],
    }
    return {
        f"AIRFLOW__{section}__{key}".upper(): str(config[section][key])
        for section, keys in wanted.items()
        for key in keys
    }


def kill_a_worker(airflow: RealAirflow, celery: bool) -> tuple[str, str]:
    """SIGKILL to a worker that is starting a node's pod, with everything below it, as a machine dies; the run and the
    task instance that it was at.
    """

    def found() -> tuple[str, str] | None:
        tasks = airflow.tasks_in("worker-1" if celery else "scheduler")
        for task in airflow.api(
            "GET", "/dags/probe/dagRuns/~/taskInstances", params={"state": "running", "limit": 100}
        )["task_instances"]:
            if task["task_id"] == "analyse" and (process := tasks.get(task["id"])) and process.is_running():
                lost = (
                    airflow.tree("worker-1") if celery else [process.parent(), process]
                )  # with LocalExecutor: its one worker process
                for one in [p for p in lost if p]:
                    one.kill()
                if celery:
                    airflow.processes.pop("worker-1").wait(30)
                psutil.wait_procs([process], 10)
                return str(task["dag_run_id"]), str(task["id"])
        return None

    return wait_for("a worker that starts a pod", found, timeout=300, every=0.2)


def running(world: RulesWorld, name: str) -> list[str]:
    return [
        p["name"] for p in world.pods().values() if p["run"] == make_run_id("probe", name) and p["state"] == "running"
    ]


def print_connections(airflow: RealAirflow, postgres: Postgres, database: str) -> None:
    """How many connections to the database each component holds: a figure for docs/sizing.md."""
    ports = {
        r["client_port"]
        for r in postgres.query("postgres", "SELECT client_port FROM pg_stat_activity WHERE datname = $1", database)
    }
    for name in airflow.processes:
        mine = memory = 0
        for process in airflow.tree(name):
            with suppress(psutil.NoSuchProcess):  # a step's, which has ended meanwhile
                memory += process.memory_full_info().uss
                mine += sum(1 for c in process.net_connections("tcp") if c.laddr.port in ports)
        print(f"{name}: {mine} connections, {memory / 1e6:.0f} MB")


def test_every_run_ends_right_though_a_worker_was_killed(story: Story) -> None:
    assert story.ended == dict.fromkeys(RUNS, "success")
    for name in RUNS:
        wrong = {task: state for task, state in story.airflow.states("probe", name).items() if state != "success"}
        assert not wrong, f"{name}: {wrong}"
        run = story.world.broker.runs[make_run_id("probe", name)]
        assert (run.state, run.outcome, run.attempt) == ("closed", "success", 1)
    name, instance = story.killed
    tried = [t for t in story.airflow.instances("probe", name) if t["task_id"] == "analyse"]
    assert max(t["try_number"] for t in tried) > 1 and all(t["id"] != instance for t in tried), "the kill met nothing"


def test_nothing_ran_twice(story: Story) -> None:
    for name in RUNS:
        run = make_run_id("probe", name)
        for node in story.world.nodes:
            started = (story.world.folder / "state" / "work" / run / node.name / "starts").read_text().split()
            assert len(started) == 1, f"{name} at {node.name}: {started}"
        assert len([p for p in story.world.pods().values() if p["run"] == run]) == 2
    assert {(a["dag_run_id"], a["attempt"]) for a in story.world.broker.admissions} == {(name, 1) for name in RUNS}
    assert all(node.closed == [1] * len(RUNS) for node in story.world.nodes)


def test_no_secret_is_in_database_queue_or_logs(story: Story) -> None:
    secrets = {"ticket": TICKET, "run token": "run-token-for-", "password of the database": story.postgres.password}
    secrets |= {f"identity {n}": token for n, token in enumerate(story.identities)}
    if story.redis:
        secrets["password of the queue"] = story.redis.password
    hidden = {what: (value.encode(), value.encode().hex().encode()) for what, value in secrets.items()}
    wait_for(
        "the last used ticket's end", lambda: TICKET.encode() not in story.postgres.dump(story.database), timeout=30
    )
    places: list[tuple[str, bytes]] = [("the database", story.postgres.dump(story.database))]
    if story.redis:
        told = list(story.redis.told())
        assert any(b"execute_workload" in one for one in told) and any(b"dag_rel_path" in one for one in told), (
            "this is not what went through the queue"
        )
        places += [("the queue", one) for one in told]
    logs = [p for p in story.airflow.folder.rglob("*") if p.is_file() and (p.suffix == ".log" or "logs" in p.parts)]
    assert len(logs) > 4 * len(RUNS)
    places += [(str(p.relative_to(story.airflow.folder)), p.read_bytes()) for p in logs]
    found = [
        (place, what)
        for place, content in places
        for what, forms in hidden.items()
        if any(form in content for form in forms)
    ]
    assert not found


def test_between_steps_a_run_holds_no_worker(story: Story) -> None:
    name = "quiet"
    story.airflow.trigger("probe", story.world.conf("slow", 3600), name)
    story.airflow.wait_states(
        "probe",
        name,
        {"analyse[0]": "deferred", "analyse[1]": "deferred", **{f"rules.{r}": "deferred" for r in RULES}},
        timeout=240,
    )
    components = ("worker-2",) if story.redis else ("scheduler",)
    wait_for("workers without a task", lambda: not any(story.airflow.tasks_in(c) for c in components), timeout=60)
    quiet = time.monotonic() + 10  # what is looked at is that nothing comes
    while time.monotonic() < quiet:
        assert not any(story.airflow.tasks_in(c) for c in components)
        time.sleep(0.5)
    story.world.broker.all_done(make_run_id("probe", name), 1, *RULES)
    story.world.end_pods(make_run_id("probe", name))
    assert story.airflow.finish("probe", name) == "success"
