"""Ten runs, and scheduler, triggerer, api-server and a worker killed in turn: none may be lost, repeated or end
otherwise than its workflow did.
"""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path

import psutil

from gdi.contracts.ids import make_run_id
from tests.bench.airflow.report import row, run
from tests.bench.airflow.rig import probe
from tests.support.airflow_kit import RealAirflow, RulesWorld, wait_for

RUNS = 10
NAMES = ("one", "two", "three")


def measure(work: Path) -> bool:
    with probe(work, NAMES) as (world, airflow):
        return _measure(world, airflow)


def _measure(world: RulesWorld, airflow: RealAirflow) -> bool:
    runs = [f"run-{n}" for n in range(RUNS)]
    for name in runs:
        airflow.trigger("probe", world.conf("slow", 3600), name)
    _kill_a_worker(airflow)
    for component in ("scheduler", "triggerer", "api-server"):
        airflow.kill(component)
        airflow.start(component)
    wait_for("every run's pod", lambda: all(_running(world, name) for name in runs), timeout=300, every=1)
    for n, name in enumerate(runs):
        world.broker.all_done(make_run_id("probe", name), 1, *NAMES[: 1 + n % 3])
        world.end_pods(make_run_id("probe", name))
    wrong = 0
    for n, name in enumerate(runs):
        run = make_run_id("probe", name)
        ended = _end(airflow, name)
        rules = {rule: state for rule, state in airflow.states("probe", name).items() if rule.startswith("rules.")}
        expected = {f"rules.{rule}": "success" if i <= n % 3 else "skipped" for i, rule in enumerate(NAMES)}
        pods = [p for p in world.pods().values() if p["run"] == run]
        right = (
            ended == "success" and rules == expected and len(pods) == 1 and world.broker.runs[run].outcome == "success"
        )
        if not right:
            wrong += 1
            print(
                f"# {name}: {ended}, {airflow.states('probe', name)}, pods {[p['name'] for p in pods]},"
                f" {world.broker.runs[run].outcome}"
            )
    return row("wrong_or_lost_runs", wrong, "runs", "0", wrong == 0)


def _end(airflow: RealAirflow, name: str) -> str:
    try:
        return airflow.finish("probe", name, timeout=240)
    except AssertionError:
        return "lost"


def _running(world: RulesWorld, name: str) -> bool:
    return any(p["run"] == make_run_id("probe", name) and p["state"] == "running" for p in world.pods().values())


def _kill_a_worker(airflow: RealAirflow) -> None:
    """The worker process of a task, in the middle of it: below the scheduler, with LocalExecutor, and its title says
    whether it is idle.
    """

    def killed() -> bool:
        for process in psutil.Process(airflow.processes["scheduler"].pid).children(recursive=True):
            with contextlib.suppress(psutil.Error):
                title = " ".join(process.cmdline())
                if "LocalExecutor" in title and "idle" not in title:
                    process.kill()
                    return True
        return False

    wait_for("a worker at work", killed, timeout=120, every=0.1)


if __name__ == "__main__":
    sys.exit(run(measure))
