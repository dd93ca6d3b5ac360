"""A Snakemake pod with 200 and with 1,000 jobs, against a node that answers at once: its CPU time and its memory, and
what a job adds.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parents[1] / "snakemake")]

from kit import Used, environment, gateway_run, good, instant, timed  # noqa: E402

from tests.bench.airflow.report import row  # noqa: E402

FEW, MANY = 200, 1000


def measure(work: Path) -> None:
    few, many = _of(work / "few", FEW), _of(work / "many", MANY)
    row(f"pod_memory_of_{FEW}_jobs", few.memory, "MB")
    row(f"pod_memory_of_{MANY}_jobs", many.memory, "MB")
    row("pod_memory_per_1000_jobs", 1000 * (many.memory - few.memory) / (MANY - FEW), "MB")
    row(f"pod_cpu_of_{FEW}_jobs", few.cpu, "s")
    row("pod_cpu_per_1000_jobs", 1000 * (many.cpu - few.cpu) / (MANY - FEW), "s")


def _of(folder: Path, count: int) -> Used:
    folder.mkdir()
    with instant(folder) as node:
        return good(
            timed(gateway_run(folder, node.url, count), cwd=folder / "work", log=folder / "log", env=environment())
        )
