"""A whole federation whose first node starts Snakemake itself, and whose second leaves it to the coordinator: from the
trigger of a run to its first TES task, beside a bare `snakemake`; and from a person's stop to the last task's end.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from statistics import median

import psutil

from gdi.contracts.tes import LIVE
from gdi.local_federation.federation import Federation
from tests.federation.driver import Driver, Started, wait_for

OWN, CENTRAL = "node-a", "node-b"
PLACEMENTS = {"node": OWN, "coordinator": CENTRAL}
SNAKEFILE = 'rule one:\n    output: "first"\n    shell: "touch {output}"\n'


@contextmanager
def both_placements(work: Path) -> Iterator[Driver]:
    """node-a has an agent, node-b has none."""
    federation = Federation(work, nodes=2, slots=1)
    federation.layout.agents = [OWN]
    federation.layout.save()
    with federation:
        federation.start()
        yield Driver(federation)


def starts(driver: Driver, folder: Path, times: int) -> tuple[float, dict[str, float]]:
    """Medians, in seconds: a bare `snakemake` to its first job, and by placement a trigger to its first TES task. The
    three take turns; the first round warms what a real centre has warm, and does not count.
    """
    bare: list[float] = []
    ours: dict[str, list[float]] = {name: [] for name in PLACEMENTS}
    for number in range(times + 1):
        alone = _alone(folder / f"bare-{number}")
        took = {name: _ours(driver, node) for name, node in PLACEMENTS.items()}
        if number:
            bare.append(alone)
            for name in PLACEMENTS:
                ours[name].append(took[name])
    return median(bare), {name: median(values) for name, values in ours.items()}


def stops(driver: Driver, times: int) -> list[float]:
    """Seconds from a person's stop, at the portal, to the end of the run's last TES task; at the node with an agent."""
    found = []
    with driver.api("alice") as portal:
        for _ in range(times):
            run = driver.start({"regions": 2, "slow_seconds": 600}, datasets=[driver.layout.dataset(OWN)])
            wait_for("a running task", lambda run=run: driver.running(run.run, "count", node=OWN), timeout=120)
            began = time.monotonic()
            portal.post(f"/ga4gh/wes/v1/runs/{run.run}/cancel").raise_for_status()
            wait_for("the end of its tasks", lambda run=run: _quiet(driver, run), timeout=120, every=0.1)
            found.append(time.monotonic() - began)
            driver.finish(run)
    return found


def idle_scheduler(driver: Driver, seconds: float = 20) -> float:
    """Cores that Airflow's scheduler takes while nothing runs."""
    pid = driver.federation.supervisor.pid("airflow-scheduler")
    assert pid is not None
    family = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
    before = sum(sum(one.cpu_times()[:2]) for one in family)
    time.sleep(seconds)
    return (sum(sum(one.cpu_times()[:2]) for one in family if one.is_running()) - before) / seconds


def _quiet(driver: Driver, run: Started) -> bool:
    return not [task for task in driver.tasks(OWN, run.run, view="MINIMAL") if task["state"] in LIVE]


def _alone(folder: Path) -> float:
    folder.mkdir()
    (folder / "Snakefile").write_text(SNAKEFILE)
    began = time.monotonic()
    process = subprocess.Popen(
        [sys.executable, "-m", "snakemake", "--cores", "1", "--quiet", "all"],
        cwd=folder,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    wait_for("the first job", (folder / "first").exists, timeout=120, every=0.02)
    took = time.monotonic() - began
    process.wait(60)
    return took


def _ours(driver: Driver, node: str) -> float:
    """From Airflow's own time of the trigger to the TES's own time of the first task."""
    run = driver.start({"regions": 1}, datasets=[driver.layout.dataset(node)])
    wait_for("the first TES task", lambda: driver.tasks(node, run.run), timeout=180, every=0.2)
    tasks = {t["task_id"]: t for t in driver.instances(run)}  # now: a resumed task may begin anew
    first = min(_at(task["creation_time"]) for task in driver.tasks(node, run.run))
    driver.succeed(run)
    path = f"/api/v2/dags/{run.workflow}/dagRuns/{run.dag_run}"
    triggered = _at(driver.portals["alice"].airflow("GET", path).json()["queued_at"])
    moments = {"trigger": triggered, "admit begins": _at(tasks["admit"]["start_date"])}
    moments["admit ends"] = _at(tasks["admit"]["end_date"])
    moments["analyse begins"] = _at(tasks["analyse"]["start_date"])
    moments |= _told(driver, run)
    moments["first TES task"] = first
    parts = sorted(moments.items(), key=lambda part: part[1])
    text = ", ".join(f"{name} {at - triggered:.2f}" for name, at in parts[1:])
    print(f"# {node}: {text}", flush=True)
    return first - triggered


def _told(driver: Driver, run: Started) -> dict[str, float]:
    """When, by who told it, the run's order to analyse changed, and its Snakemake got on."""
    with driver.portals["alice"].broker() as broker:
        events = broker.events(run.run).events
    found: dict[str, float] = {}
    for event in events:
        if event.kind == "order" and event.order == "analyse":
            found.setdefault(f"order {event.order_state}", event.time)
        elif event.kind in ("node", "rules"):
            found.setdefault(f"Snakemake {event.state or 'knows its jobs'}", event.time)
    return found


def _at(stamp: str) -> float:
    return datetime.fromisoformat(stamp).timestamp()
