"""The list of a run's jobs: the last word about each, only what is new since one last looked, bounded, and for nobody
but the run's user and Airflow.
"""

from __future__ import annotations

import time
from typing import Any

import pytest

from gdi.broker_client.client import BrokerClient
from gdi.contracts import broker_api as m
from tests.support.broker_kit import DATASETS, World, refused


@pytest.fixture
def told_of(world: World, alice: BrokerClient) -> m.Run:
    """A run whose first node has a pod."""
    started = world.started(alice)[1]
    world.workload(started, "pod-a")
    return started


def tell(world: World, run: m.Run, *events: dict[str, Any], first: int = 1) -> None:
    made = [
        m.Event(**{"seq": first + i, "time": time.time(), "kind": "job", "rule": "count", **e})
        for i, e in enumerate(events)
    ]
    world.pod("pod-a").post_events(run.id, m.EventBatch(source="pod-a", events=made))


def test_a_job_is_the_last_that_was_said_of_it(world: World, told_of: m.Run, alice: BrokerClient) -> None:
    run = told_of
    now = time.time()
    tell(
        world,
        run,
        {"job": "j1", "state": "submitted", "task": "t1", "tries": 1, "wildcards": {"part": "7"}, "time": now - 9},
        {"job": "j1", "state": "running", "task": "t1", "time": now - 8},
        {"job": "j1", "state": "queued", "task": "t1", "message": "tried again: the node was full", "tries": 1},
    )
    tell(world, run, {"job": "j1", "state": "submitted", "task": "t2", "tries": 2, "time": now - 5}, first=4)
    (job,) = alice.jobs(run.id).jobs
    assert (job.node, job.rule, job.state, job.task, job.tries, job.wildcards) == (
        "node-a",
        "count",
        "submitted",
        "t2",
        2,
        {"part": "7"},
    )
    assert (
        job.message == "tried again: the node was full"
        and abs((job.submitted_at or 0) - (now - 5)) < 1
        and abs((job.started_at or 0) - (now - 8)) < 1
    )
    failed = {
        "exit_code": 3,
        "error_class": "ValueError",
        "line": 7,
        "dataset": DATASETS["node-a"],
        "message": "a bad line",
    }
    tell(world, run, {"job": "j1", "state": "failed", **failed}, first=5)
    (job,) = alice.jobs(run.id).jobs
    assert job.ended_at and {k: getattr(job, k) for k in failed} == failed
    tell(world, run, {"job": "j1", "state": "done", "cpu_seconds": 1.5, "memory_bytes": 2**33}, first=6)
    (job,) = alice.jobs(run.id).jobs
    assert (job.message, job.exit_code, job.error_class) == (None, None, None), (
        "what a done job had failed of before is of no use"
    )
    assert (job.wildcards, job.tries, job.cpu_seconds, job.memory_bytes) == ({"part": "7"}, 2, 1.5, 2**33)


def test_only_news_is_told_and_pages_end(world: World, told_of: m.Run, alice: BrokerClient) -> None:
    run = told_of
    for first in range(1, 2501, 500):
        tell(world, run, *({"job": f"j{i}", "state": "submitted"} for i in range(first, first + 500)), first=first)
    page = alice.jobs(run.id)
    assert len(page.jobs) == 2000 and page.more
    rest = alice.jobs(run.id, after=page.next_after)
    assert {j.job for j in [*page.jobs, *rest.jobs]} == {f"j{i}" for i in range(1, 2501)} and not rest.more
    assert alice.jobs(run.id, after=rest.next_after).jobs == []
    tell(world, run, {"job": "j7", "state": "running"}, first=2501)
    news = alice.jobs(run.id, after=rest.next_after)
    assert [(j.job, j.state) for j in news.jobs] == [("j7", "running")]
    world.admit(dag_run_id=run.dag_run_id, attempt=2)
    again = alice.jobs(run.id)
    assert (again.attempt, again.jobs) == (2, []), "a later attempt plans anew"


def test_a_hostile_job_costs_a_list_little_and_breaks_it_never(
    world: World, told_of: m.Run, alice: BrokerClient
) -> None:
    run = told_of
    huge = {f"w{i}" + "x" * 200: "y" * 255 for i in range(50)}
    attack = {"job": "j1", "state": "running", "wildcards": huge, "message": "<script>" * 200, "rule": "\x1b[31m<b>"}
    tell(world, run, attack, {"job": "j1", "state": "success"}, {"job": "j2", "state": "starting"})
    (job,) = alice.jobs(run.id).jobs
    assert (
        job.state == "running"
        and len(str(job.wildcards)) < 1100
        and len(job.message or "") <= 500
        and "\x1b" not in job.rule
    )


def test_the_jobs_are_for_the_runs_user_and_airflow_only(
    world: World, told_of: m.Run, alice: BrokerClient, bob: BrokerClient
) -> None:
    run = told_of
    tell(world, run, {"job": "j1", "state": "running"})
    assert refused(bob.jobs, run.id).slug == "run-unknown"
    assert refused(world.gateway("node-a").jobs, run.id).slug == "forbidden"
    assert refused(world.pod("pod-a").jobs, run.id).slug == "run-unknown"
    with world.airflow() as airflow:
        assert len(airflow.jobs(run.id).jobs) == 1
