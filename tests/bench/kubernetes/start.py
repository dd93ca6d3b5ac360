"""From the trigger of a run to its Snakemake pod and its first TES task, and what of that is ours: not Airflow's,
Kubernetes' or Snakemake's own.
"""

from __future__ import annotations

import sys
from datetime import datetime
from pathlib import Path
from statistics import median

from tests.bench.airflow.report import p95, row, run
from tests.bench.kubernetes.rig import a_federation
from tests.bench.kubernetes.story import Story
from tests.federation.driver import Driver, wait_for
from tests.kubernetes.federated import ClusterFederation
from tests.kubernetes.pods import finished, pod

TIMES = 8
# Snakemake alone in the same image: from its start to its first job.
ALONE = """
import os, subprocess, time
open("/tmp/Snakefile", "w").write('rule one:\\n    output: "first"\\n    shell: "touch {output}"\\n')
began = time.monotonic()
subprocess.Popen(["python3", "-m", "snakemake", "--cores", "1", "--quiet", "all"], cwd="/tmp",
    stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
while not os.path.exists("/tmp/first"): time.sleep(0.01)
print(time.monotonic() - began)
"""


def measure(work: Path) -> bool:
    with a_federation() as federation:
        alone = median(_alone(federation, n) for n in range(3))
        story = Story(federation.cluster)
        driver = Driver(federation)
        started = [_one(driver, story, alone) for _ in range(TIMES)][1:]  # the first warms what a real centre has warm
        story.close()
    running, first, ours = ([s[n] for s in started] for n in range(3))
    row("snakemake_alone_to_its_first_job", alone, "s")
    for name, values in (("trigger_to_snakemake_pod_running", running), ("trigger_to_first_tes_task", first)):
        row(f"{name}_p50", median(values), "s")
        row(f"{name}_p95", p95(values), "s")
    return row("our_share_p50", median(ours), "s", "<3", median(ours) < 3) & row(
        "our_share_p95", p95(ours), "s", "<3", p95(ours) < 3
    )


def _one(driver: Driver, story: Story, alone: float) -> tuple[float, float, float]:
    """(trigger to pod running, trigger to first TES task, our share), in seconds."""
    begun = driver.start({"regions": 1})
    wait_for("the first TES task", lambda: driver.all_tasks(begun.run), timeout=300, every=0.1)
    tasks = {t["task_id"]: t for t in driver.instances(begun)}  # now: a resumed task may begin anew
    driver.succeed(begun, timeout=400)
    triggered = _at(
        driver.portals["alice"]
        .airflow("GET", f"/api/v2/dags/{begun.workflow}/dagRuns/{begun.dag_run}")
        .json()["queued_at"]
    )
    moments = story.of(begun.run)
    first = min(_at(t["creation_time"]) for t in driver.all_tasks(begun.run))
    parts = {
        "admit": _at(tasks["admit"]["end_date"]) - _at(tasks["admit"]["start_date"]),
        "launch": moments["let-go"] - _at(tasks["analyse"]["start_date"]),
        "Snakemake and entry point": first - moments["started"],
    }
    theirs = {
        "Kubernetes": moments["started"] - moments["let-go"],
        "Airflow": first - triggered - sum(parts.values()) - moments["started"] + moments["let-go"],
    }
    print("# " + ", ".join(f"{name} {seconds:.2f} s" for name, seconds in {**parts, **theirs}.items()), flush=True)
    return moments["started"] - triggered, first - triggered, sum(parts.values()) - alone


def _alone(federation: ClusterFederation, number: int) -> float:
    name = f"alone-{number}"
    made = pod(name, ALONE, target="snakemake", volumes=[{"name": "tmp", "emptyDir": {}}])
    made["spec"]["containers"][0]["volumeMounts"] = [{"name": "tmp", "mountPath": "/tmp"}]
    federation.cluster.apply([made])
    return float(finished(federation.cluster, name, 180))


def _at(stamp: str) -> float:
    return datetime.fromisoformat(stamp).timestamp()


if __name__ == "__main__":
    sys.exit(run(measure))
