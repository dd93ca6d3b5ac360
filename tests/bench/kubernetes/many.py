"""Fifty runs at once at one node: whether all complete, how long it takes, and the most memory that each run's pod held. `many.py N`: that many."""

from __future__ import annotations

import sys
import threading
import time
from pathlib import Path
from statistics import median

import httpx

from tests.bench.airflow.report import p95, row, run
from tests.bench.kubernetes.rig import a_federation
from tests.federation.driver import Driver
from tests.kubernetes.cgroups import hierarchies
from tests.kubernetes.cluster import Cluster

RUNS = int(sys.argv[1]) if len(sys.argv) > 1 else 50
TIMEOUT = 60 * RUNS + 600  # seconds
POD = {"cpu": "20m", "memory": "400Mi", "disk": "200Mi"}


class Peaks:
    """The most memory of each Snakemake pod, by its control group, looked at twice a second while it lives. {uid: bytes}."""

    def __init__(self, cluster: Cluster) -> None:
        self.seen: dict[str, int] = {}
        kinds = {kind: mount for mount, kind in hierarchies() if kind == "cgroup2" or mount.name == "memory"}
        self._root = (kinds.get("cgroup") or kinds["cgroup2"]) / cluster.name
        self._file = "memory.max_usage_in_bytes" if "cgroup" in kinds else "memory.peak"
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._end.set()
        self._thread.join(10)

    def _look(self) -> None:
        while not self._end.wait(0.5):
            for folder in self._root.glob("node-*/kubepods/**/pod*"):
                try:
                    peak = int((folder / self._file).read_text())
                except (OSError, ValueError):
                    continue  # it ended just now
                uid = folder.name.removeprefix("pod")
                self.seen[uid] = max(peak, self.seen.get(uid, 0))


def measure(work: Path) -> bool:
    with a_federation(pods={"defaults": POD, "start_timeout": 3600}) as federation:
        driver = Driver(federation)
        driver.succeed(driver.start({"regions": 1}), timeout=600)
        peaks = Peaks(federation.cluster)
        started = time.monotonic()
        runs = [driver.start({"regions": 1}) for _ in range(RUNS)]
        states = dict.fromkeys((r.dag_run for r in runs), "")
        while any(s not in ("success", "failed") for s in states.values()) and time.monotonic() < started + TIMEOUT:
            time.sleep(5)
            for begun in runs:
                if states[begun.dag_run] not in ("success", "failed"):
                    try:
                        states[begun.dag_run] = driver.portals["alice"].dag_run(begun.workflow, begun.dag_run)
                    except httpx.HTTPError:
                        break
        took = time.monotonic() - started
        peaks.close()
        of_runs = {p["metadata"]["uid"] for r in runs for p in federation.pods_of(r.run)}
    held = [peak for uid, peak in peaks.seen.items() if uid in of_runs]
    done = list(states.values()).count("success")
    row(f"{RUNS}_runs_at_once", took, "s")
    row("peak_memory_of_a_runs_pod_median", median(held) / 1e6, "MB")
    row("peak_memory_of_a_runs_pod_p95", p95(held) / 1e6, "MB")
    row("peak_memory_of_a_runs_pod_most", max(held) / 1e6, "MB")
    return row("runs_completed", done, "runs", str(RUNS), done == RUNS)


if __name__ == "__main__":
    sys.exit(run(measure))
