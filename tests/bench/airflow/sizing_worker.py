"""A step on a worker: what starting a task's process, and what it does for a run, takes of a CPU; four runs over two
nodes, nothing in their pods.
"""

from __future__ import annotations

import contextlib
from pathlib import Path

import psutil

from tests.bench.airflow.report import row
from tests.support.airflow_kit import RealAirflow, RulesWorld, wait_for

RUNS, STEPS = 4, 6  # steps of a run: admit, close, and for each of two nodes analyse, which begins and ends on a worker


def measure(work: Path) -> None:
    world = RulesWorld(work, nodes=2)
    world.start_host()
    airflow = RealAirflow(work / "airflow", world.environment, GDI_RECURRING_SCHEDULE="", GDI_HOUSEKEEPING_SCHEDULE="")
    try:
        airflow.start()
        wait_for("the DAG", lambda: airflow.has_dag("probe"), timeout=200)
        _runs(world, airflow, ["warm"])
        before = _cpu(airflow)
        _runs(world, airflow, [f"run-{n}" for n in range(RUNS)])
        row("worker_cpu_per_step", (_cpu(airflow) - before) / (RUNS * STEPS), "s")
        row("worker_memory_of_a_step", max(_steps) / 1e6, "MB")
    finally:
        airflow.close()
        world.close()


_steps: list[int] = [0]


def _runs(world: RulesWorld, airflow: RealAirflow, names: list[str]) -> None:
    for name in names:
        airflow.trigger("probe", world.conf("ok", 0.2), name)
    for name in names:
        wait_for(
            f"the end of {name}",
            lambda name=name: _look(airflow) or airflow.run_state("probe", name) in ("success", "failed"),
            timeout=600,
            every=0.5,
        )
        if airflow.run_state("probe", name) != "success":
            raise SystemExit(f"{name} failed: {airflow.states('probe', name)}")


def _look(airflow: RealAirflow) -> None:
    for process in airflow.tasks_in("scheduler").values():
        with contextlib.suppress(psutil.Error):
            _steps.append(process.memory_full_info().uss)


def _cpu(airflow: RealAirflow) -> float:
    """Of LocalExecutor's processes and all that they started and saw end."""
    found = 0.0
    for process in airflow.tree("scheduler"):
        with contextlib.suppress(psutil.Error):
            if "LocalExecutor" in " ".join(process.cmdline()):
                found += sum(process.cpu_times()[:4])
    return found
