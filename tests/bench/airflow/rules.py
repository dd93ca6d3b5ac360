"""Twenty runs of fifty rules at once: what watching costs, and how soon a rule's change is in the UI's API. On
PostgreSQL (Debian's, as root), as whoever runs so much at once has it."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import psutil

from gdi.contracts.ids import make_run_id
from tests.bench.airflow.report import p95, row, run
from tests.bench.airflow.rig import probe
from tests.support.airflow_kit import RealAirflow, RulesWorld, wait_for
from tests.support.postgres_kit import running_postgres

RUNS, RULES, QUIET = 20, 50, 30
NAMES = tuple(f"rule_{n:02d}" for n in range(RULES))
SAMPLED = 4  # runs whose rules are timed: asking the API for all of them would measure the asking


def measure(work: Path) -> bool:
    with running_postgres() as postgres:
        database = f"postgresql://gdi:{postgres.password}@127.0.0.1:{postgres.port}/{postgres.database('airflow')}"
        with probe(work, NAMES, database=database, AIRFLOW__CORE__MAX_ACTIVE_RUNS_PER_DAG="50") as (world, airflow):
            return _measure(world, airflow)


def _measure(world: RulesWorld, airflow: RealAirflow) -> bool:
    runs = [f"run-{n}" for n in range(RUNS)]
    empty = _memory(airflow)
    for name in runs:
        airflow.trigger("probe", world.conf("slow", 3600), name)
    started = time.monotonic()
    wait_for("all producers and watchers", lambda: _deferred(airflow) == RUNS * (RULES + 1), timeout=400, every=2)
    row("all_watched_after", time.monotonic() - started, "s")
    for name in runs:
        world.broker.rules[make_run_id("probe", name), 1] = {rule: {"node-a": (1, 0, 0, 0)} for rule in NAMES}
    before, quiet = len(world.broker.requests), time.monotonic()
    time.sleep(QUIET)  # the figure is a rate over this time
    rate = (len(world.broker.requests) - before) / (time.monotonic() - quiet)
    good = row("broker_requests", rate, "1/s", "<10", rate < 10)
    taken = sum(
        airflow.api("GET", "/dags/probe/dagRuns/~/taskInstances", params={"state": s, "limit": 1})["total_entries"]
        for s in ("running", "queued", "scheduled")
    )
    good &= row("worker_slots_used_by_watching", taken, "slots", "0", taken == 0)
    row("triggerer_memory", _memory(airflow) / 1e6, "MB")
    row("triggerer_memory_of_1020_triggers", (_memory(airflow) - empty) / 1e6, "MB")
    late = [seconds for n in range(SAMPLED) for seconds in _latencies(world, airflow, runs[n])]
    good &= row("rule_change_to_api_p95", p95(late), "s", "<=10", p95(late) <= 10)
    row("rule_change_to_api_median", sorted(late)[len(late) // 2], "s")
    for name in runs:
        world.broker.all_done(make_run_id("probe", name), 1, *NAMES)
        world.end_pods(make_run_id("probe", name))
    ended = [airflow.finish("probe", name, timeout=300) for name in runs]
    return good & row("runs_succeeded", ended.count("success"), "runs", str(RUNS), ended.count("success") == RUNS)


def _latencies(world: RulesWorld, airflow: RealAirflow, name: str) -> list[float]:
    """Ends a rule of the run every second; the seconds until the API showed each."""
    told = world.broker.rules[make_run_id("probe", name), 1]
    changed: dict[str, float] = {}
    seen: dict[str, float] = {}
    deadline = time.monotonic() + 90
    left = list(NAMES[:10])
    while len(seen) < 10 and time.monotonic() < deadline:
        if left:
            rule = left.pop()
            told[rule] = {"node-a": (1, 1, 0, 0)}
            changed[rule] = time.monotonic()
        states = airflow.states("probe", name)
        now = time.monotonic()
        for rule in changed:
            if states.get(f"rules.{rule}") == "success":
                seen.setdefault(rule, now)
        time.sleep(max(0.0, 1 - (time.monotonic() - now)))
    return [seen.get(rule, deadline) - at for rule, at in changed.items()]


def _deferred(airflow: RealAirflow) -> int:
    return int(
        airflow.api("GET", "/dags/probe/dagRuns/~/taskInstances", params={"state": "deferred", "limit": 1})[
            "total_entries"
        ]
    )


def _memory(airflow: RealAirflow) -> int:
    """Bytes that the triggerer and its children hold for themselves (USS)."""
    process = psutil.Process(airflow.processes["triggerer"].pid)
    return sum(p.memory_full_info().uss for p in (process, *process.children(recursive=True)))


if __name__ == "__main__":
    sys.exit(run(measure))
