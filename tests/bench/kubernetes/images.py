"""The sizes of the Dockerfile's images."""

from __future__ import annotations

import sys
from pathlib import Path

from tests.bench.airflow.report import row, run
from tests.kubernetes import images

TARGETS = ("broker", "node", "snakemake", "task")  # airflow's own size is Airflow's


def measure(work: Path) -> bool:
    good = True
    for target, size in images.build(TARGETS).items():
        most = images.BUDGET_MB.get(target)
        good &= row(
            f"image_{target}",
            size,
            "MB",
            "printed" if most is None else f"<{most}",
            None if most is None else size < most,
        )
    return good


if __name__ == "__main__":
    sys.exit(run(measure))
