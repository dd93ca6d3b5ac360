"""Fifty runs at once at one node: whether all complete, how long it takes, and the most memory that each run's pod
held. `many N`: that many.
"""

from __future__ import annotations

import sys
import threading
import time
from itertools import accumulate
from pathlib import Path
from statistics import median
from typing import Any

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
    """The most memory of each Snakemake pod, by its control group, looked at twice a second while it lives. `held`:
    {uid: bytes}, with the files that the kernel keeps for it; `own`: what its processes hold for themselves."""

    def __init__(self, cluster: Cluster) -> None:
        self.held: dict[str, int] = {}
        self.own: dict[str, int] = {}
        kinds = {kind: mount for mount, kind in hierarchies() if kind == "cgroup2" or mount.name == "memory"}
        self._root = (kinds.get("cgroup") or kinds["cgroup2"]) / cluster.name
        self._peak, self._anonymous = (
            ("memory.max_usage_in_bytes", "total_rss") if "cgroup" in kinds else ("memory.peak", "anon")
        )
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._end.set()
        self._thread.join(10)

    def _look(self) -> None:
        while not self._end.wait(0.5):
            # No `**`: it would look into the groups of pods, which go away meanwhile.
            for folder in (
                f
                for quality in (".", "burstable", "besteffort")
                for f in self._root.glob(f"node-*/kubepods/{quality}/pod*")
            ):
                uid = folder.name.removeprefix("pod")
                try:
                    peak = int((folder / self._peak).read_text())
                    now = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
                except (OSError, ValueError):
                    continue  # it ended just now
                self.held[uid] = max(peak, self.held.get(uid, 0))
                self.own[uid] = max(int(now[self._anonymous]), self.own.get(uid, 0))


def at_once(pods: list[dict[str, Any]]) -> int:
    """The most of them that ran at the same time."""
    states = [c["state"] for p in pods for c in p["status"].get("containerStatuses", [])]
    ends = [s["terminated"] for s in states if "terminated" in s]
    moments = sorted([(e["startedAt"], 1) for e in ends] + [(e["finishedAt"], -1) for e in ends])
    return max(accumulate(step for _, step in moments), default=0)


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
        pods = [p for r in runs for p in federation.pods_of(r.run)]
        for failed in [r for r in runs if states[r.dag_run] != "success"][:3]:
            print(f"# {driver.explain(failed)}", flush=True)
    of_runs = {p["metadata"]["uid"] for p in pods}
    done = list(states.values()).count("success")
    row(f"{RUNS}_runs_at_once", took, "s")
    row("pods_running_at_once", at_once(pods), "pods")
    for name, peaks_of in (("own", peaks.own), ("with_files", peaks.held)):
        held = [peak / 1e6 for uid, peak in peaks_of.items() if uid in of_runs]
        for which, value in (("median", median(held)), ("p95", p95(held)), ("most", max(held))):
            row(f"peak_memory_of_a_runs_pod_{name}_{which}", value, "MB")
    return row("runs_completed", done, "runs", str(RUNS), done == RUNS)


if __name__ == "__main__":
    sys.exit(run(measure))
