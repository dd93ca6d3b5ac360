"""Every rule as a task, on a real Airflow: green, red or skipped while the producer is deferred, with no worker;
cancelled, cleared, killed around it.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest

from gdi.contracts.ids import make_run_id
from gdi.kit.problem import ProblemError
from gdi.runner.sandbox import why_not
from tests.support.airflow_kit import RealAirflow, RulesWorld, wait_for

pytestmark = [
    pytest.mark.system,
    pytest.mark.xdist_group("airflow"),
    pytest.mark.skipif(why_not() is not None, reason=f"no sandboxes here: {why_not()}"),
]
RULES = ("one", "two", "three")
RUNS = (
    *("green", "red", "lost", "marked", "stopped", "again", "kill-triggerer", "kill-scheduler", "won", "half"),
)  # one for each test
WITHIN = (
    30  # seconds that a test waits for a state; the figure of 10 s is measured by the benchmark, on a quiet machine
)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RulesWorld]:
    made = RulesWorld(tmp_path_factory.mktemp("rules"), rules=RULES)
    made.start_host()
    yield made
    made.close()


@pytest.fixture(scope="module")
def airflow(world: RulesWorld) -> Iterator[RealAirflow]:
    made = RealAirflow(world.folder / "airflow", world.environment)
    try:
        made.start()
        wait_for("the DAG", lambda: made.has_dag("probe"), timeout=120)
        for name in RUNS:  # all at once: starting tasks is what takes long
            made.trigger("probe", world.conf("slow", 1800), name)
        yield made
    finally:
        made.close()


def begin(world: RulesWorld, airflow: RealAirflow, name: str) -> str:
    """A run whose pods work until told to end; the broker's id. Returns when the producer is deferred and every rule is
    watched.
    """
    wanted = {
        "admit": "success",
        "analyse[0]": "deferred",
        "analyse[1]": "deferred",
        **{f"rules.{r}": "deferred" for r in RULES},
    }
    airflow.wait_states("probe", name, wanted, timeout=180)
    wait_for(
        "both pods",
        lambda: (
            len(
                [p for p in world.pods().values() if p["run"] == make_run_id("probe", name) and p["state"] == "running"]
            )
            == 2
        ),
    )
    return make_run_id("probe", name)


def test_a_rule_turns_green_red_or_grey_while_the_producer_is_deferred_and_takes_no_worker(
    world: RulesWorld, airflow: RealAirflow
) -> None:
    run = begin(world, airflow, "green")
    world.broker.rules[run, 1] = {
        "one": {"node-a": (2, 1, 1, 0), "node-b": (1, 1, 0, 0)},
        "two": {"node-a": (1, 0, 0, 0), "node-b": (1, 0, 0, 0)},
    }
    wait_for(
        "the rule's log",
        lambda: (
            "node-a: 1 of 2 jobs done, 1 running; node-b: 1 of 1 jobs done"
            in airflow.log("probe", "green", "rules.one")
        ),
    )
    assert airflow.states("probe", "green")["rules.one"] == "deferred"  # green at one node only
    world.broker.rules[run, 1]["one"]["node-a"] = (2, 2, 0, 0)
    states = airflow.wait_states("probe", "green", {"rules.one": "success", "rules.three": "skipped"}, timeout=WITHIN)
    assert states["analyse[0]"] == states["analyse[1]"] == states["rules.two"] == "deferred"
    world.broker.all_done(run, 1, "one", "two")
    airflow.wait_states("probe", "green", {"rules.two": "success", "rules_shown": "success"}, timeout=WITHIN)
    world.end_pods(run)
    assert airflow.finish("probe", "green") == "success"
    for task in airflow.instances("probe", "green"):
        if task["task_id"].startswith("rules"):
            assert task["pid"] is None and not task["queued_when"] and task["try_number"] == 1, (
                task
            )  # never queued: no worker, no slot


def test_a_rule_is_red_as_soon_as_a_job_of_any_node_failed_and_the_producer_fails_the_run(
    world: RulesWorld, airflow: RealAirflow
) -> None:
    run = begin(world, airflow, "red")
    world.broker.rules[run, 1] = {
        "one": {"node-a": (1, 1, 0, 0), "node-b": (1, 1, 0, 0)},
        "two": {"node-a": (1, 0, 1, 0), "node-b": (1, 0, 0, 1)},
    }
    states = airflow.wait_states("probe", "red", {"rules.one": "success", "rules.two": "failed"}, timeout=WITHIN)
    assert states["analyse[0]"] == "deferred" and airflow.run_state("probe", "red") == "running"
    world.broker.runs[run] = world.broker.runs[run].model_copy(
        update={"failing": _failing("node-b", "rule two failed")}
    )
    airflow.wait_states("probe", "red", {"analyse[0]": "failed"})  # the other node's; this one's pod ends by itself
    world.end_pods(run)
    assert airflow.finish("probe", "red") == "failed"
    assert world.broker.runs[run].outcome == "failed"


def test_a_lost_step_of_a_failed_run_is_tried_again_and_begins_nothing_anew(
    world: RulesWorld, airflow: RealAirflow
) -> None:
    """Airflow takes a step for lost also when its scheduler is slow to see that it deferred (triggers/settled.py)."""
    run = begin(world, airflow, "lost")
    world.broker.held.add(run)
    world.broker.runs[run] = world.broker.runs[run].model_copy(
        update={"failing": _failing("node-b", "rule two failed")}
    )
    (step,) = (t["id"] for t in airflow.instances("probe", "lost") if t["task_id"] == "analyse" and t["map_index"] == 0)
    wait_for("the step that heard of it", lambda: airflow.tasks_in("scheduler").get(step)).kill()
    world.broker.held.clear()
    airflow.wait_states("probe", "lost", {"analyse[0]": "failed"}, timeout=180)
    assert airflow.tries("probe", "lost", "analyse", 0) == 2, "the kill met nothing"
    assert world.broker.runs[run].attempt == 1 and len([p for p in world.pods().values() if p["run"] == run]) == 2
    world.end_pods(run)
    assert airflow.finish("probe", "lost") == "failed"


def test_a_watcher_that_fails_does_not_fail_the_run(world: RulesWorld, airflow: RealAirflow) -> None:
    run = begin(world, airflow, "marked")
    airflow.mark("probe", "marked", "rules.one", "failed")
    world.broker.all_done(run, 1, *RULES)
    world.end_pods(run)
    assert airflow.finish("probe", "marked") == "success"
    assert airflow.states("probe", "marked")["rules.one"] == "failed" and world.broker.runs[run].outcome == "success"


def test_where_admission_is_refused_no_rule_waits(world: RulesWorld, airflow: RealAirflow) -> None:
    world.broker.refusal = ProblemError(403, "access-denied", "Access is missing.")
    try:
        airflow.trigger("probe", world.conf("slow"), "refused")
        assert airflow.finish("probe", "refused") == "failed"
    finally:
        world.broker.refusal = None
    assert {airflow.states("probe", "refused")[f"rules.{r}"] for r in RULES} == {"upstream_failed"}


def test_stopping_the_run_in_the_ui_stops_its_pods_closes_the_attempt_and_leaves_no_rule_waiting(
    world: RulesWorld, airflow: RealAirflow
) -> None:
    run = begin(world, airflow, "stopped")
    asked = time.monotonic()
    airflow.mark_run("probe", "stopped", "failed")
    wait_for(
        "the pods' end",
        lambda: all(p["state"] == "exited" for p in world.pods().values() if p["run"] == run),
        timeout=30,
    )
    wait_for("the attempt's end", lambda: world.broker.runs[run].state == "closed", timeout=30)
    print(f"stopped and closed after {time.monotonic() - asked:.1f} s")
    assert world.broker.runs[run].outcome == "cancelled"
    assert airflow.finish("probe", "stopped") == "failed"
    assert "deferred" not in airflow.states("probe", "stopped").values()


def test_a_run_that_is_marked_a_success_in_the_middle_is_cancelled_and_says_so(
    world: RulesWorld, airflow: RealAirflow
) -> None:
    run = begin(world, airflow, "won")
    airflow.mark_run("probe", "won", "success")
    assert airflow.finish("probe", "won") == "failed"
    assert world.broker.runs[run].outcome == "cancelled"
    assert "marked the run, or analyse[0], analyse[1]" in airflow.log("probe", "won", "close")
    wait_for(
        "the pods' end",
        lambda: all(p["state"] == "exited" for p in world.pods().values() if p["run"] == run),
        timeout=60,
    )


def test_a_run_with_one_analysis_marked_a_success_is_cancelled_and_names_it(
    world: RulesWorld, airflow: RealAirflow
) -> None:
    run = begin(world, airflow, "half")
    airflow.mark("probe", "half", "analyse/0", "success")
    world.end_pods(run)
    assert airflow.finish("probe", "half") == "failed"
    assert world.broker.runs[run].outcome == "cancelled"
    assert "marked the run, or analyse[0], by hand" in airflow.log("probe", "half", "close")


def test_a_start_for_another_day_says_what_it_waits_for(airflow: RealAirflow) -> None:
    day: dict[str, Any] = {
        "dag_run_id": "tomorrow",
        "logical_date": "2099-01-01T00:00:00Z",
        "conf": {"datasets": ["DS-A"]},
    }
    airflow.api("POST", "/dags/probe/dagRuns", json={**day, "conf": {**day["conf"], "mode": "ok"}})
    told = airflow.http.get("/gdi/data/jobs/probe/tomorrow").json()["progress"]
    assert (told["state"], told["waits_until"]) == ("not-admitted", 4070908800.0)
    assert airflow.http.get("/gdi/data/results/probe/tomorrow").json()["waits_until"] == 4070908800.0


def test_clearing_a_rule_looks_again_and_says_what_runs_it_and_clearing_the_producer_starts_all_anew(
    world: RulesWorld, airflow: RealAirflow
) -> None:
    run = begin(world, airflow, "again")
    world.broker.all_done(run, 1, "one", "two")
    world.end_pods(run)
    assert airflow.finish("probe", "again") == "success"
    assert airflow.clear("probe", "again", ["rules.one"], downstream=True) == [
        "rules.one",
        "rules_shown",
    ]  # not the admission: nothing is opened again
    assert airflow.finish("probe", "again") == "success"
    airflow.wait_states("probe", "again", {"rules.one": "success", "rules_shown": "success"})
    assert "clear 'analyse' with its downstream tasks" in airflow.log("probe", "again", "rules.one", number=2)
    assert world.broker.runs[run].attempt == 1
    for end in (world.folder / "state" / "work").glob(f"{run}/*/end"):
        end.unlink()
    cleared = airflow.clear("probe", "again", ["analyse"], downstream=True)
    assert {"admit", "analyse", "close", *(f"rules.{r}" for r in RULES)} <= set(cleared)
    wait_for("the next attempt", lambda: world.broker.runs[run].attempt == 3)  # numbered by clears
    airflow.wait_states(
        "probe", "again", {f"rules.{r}": "deferred" for r in RULES}
    )  # not green by what the first attempt did
    world.broker.all_done(run, 3, "one")
    airflow.wait_states("probe", "again", {"rules.one": "success", "rules.two": "skipped"}, timeout=WITHIN)
    world.end_pods(run)
    assert airflow.finish("probe", "again") == "success"


@pytest.mark.parametrize("component", ["triggerer", "scheduler"])
def test_rules_end_right_though_it_was_killed(component: str, world: RulesWorld, airflow: RealAirflow) -> None:
    run = begin(world, airflow, f"kill-{component}")
    airflow.kill(component)
    world.broker.rules[run, 1] = {
        "one": {"node-a": (1, 1, 0, 0), "node-b": (1, 1, 0, 0)},
        "two": {"node-a": (1, 0, 0, 1), "node-b": (1, 0, 0, 0)},
    }
    airflow.start(component)
    wanted: dict[str, str | None] = {"rules.one": "success", "rules.two": "failed", "rules.three": "skipped"}
    airflow.wait_states(
        "probe", f"kill-{component}", wanted, timeout=240
    )  # a busy machine takes a minute to start a triggerer
    world.broker.all_done(run, 1, *RULES)
    world.end_pods(run)
    assert airflow.finish("probe", f"kill-{component}") == "success"


def _failing(node: str, reason: str) -> Any:
    from gdi.contracts import broker_api as m

    return m.Failing(node=node, reason=reason)
