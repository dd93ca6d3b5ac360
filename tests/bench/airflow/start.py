"""From the trigger of a run to its first TES task, against Snakemake alone on the same machine at the same time."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from statistics import median

from gdi.local_federation.federation import Federation
from tests.bench.airflow.report import row, run
from tests.federation.driver import Driver, wait_for

TIMES = 3
SNAKEFILE = 'rule one:\n    output: "first"\n    shell: "touch {output}"\n'


def measure(work: Path) -> bool:
    with Federation(work / "federation", nodes=1, slots=1, placement="coordinator") as federation:
        federation.start()
        driver = Driver(federation)
        ours, bare = [], []
        for n in range(TIMES):
            bare.append(_bare(work / f"bare-{n}"))
            ours.append(_ours(driver))
    row("snakemake_alone_to_its_first_job", median(bare), "s")
    row("trigger_to_first_tes_task", median(ours), "s")
    factor = median(ours) / median(bare)
    return row("trigger_to_first_tes_task_by_bare_snakemake", factor, "times", "<3", factor < 3)


def _bare(folder: Path) -> float:
    """Seconds from the start of `snakemake` to its first job's output."""
    folder.mkdir()
    (folder / "Snakefile").write_text(SNAKEFILE)
    started = time.monotonic()
    process = subprocess.Popen(
        [sys.executable, "-m", "snakemake", "--cores", "1", "--quiet", "all"],
        cwd=folder,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    wait_for("the first job", (folder / "first").exists, timeout=120, every=0.05)
    took = time.monotonic() - started
    process.wait(60)
    return took


def _ours(driver: Driver) -> float:
    started = time.monotonic()
    run = driver.start({"regions": 1})
    triggered = time.monotonic()  # the grant and the ticket come before it
    wait_for("the first TES task", lambda: driver.all_tasks(run.run), timeout=180, every=0.1)
    took = time.monotonic() - triggered
    print(f"# grant, ticket and trigger took {triggered - started:.1f} s before that")
    driver.succeed(run)
    return took


if __name__ == "__main__":
    sys.exit(run(measure))
