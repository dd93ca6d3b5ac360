"""What docs/sizing.md reckons with: a producer in the triggerer, a call at the broker, a step on a worker, a job in a
pod; memory, and CPU time.

CPU time is what a process took, not what it waited: it hardly depends on what else the machine does.
"""

from __future__ import annotations

import sys
from pathlib import Path

from tests.bench.airflow import sizing_broker, sizing_pod, sizing_triggerer, sizing_worker
from tests.bench.airflow.report import run


def measure(work: Path) -> bool:
    parts = {
        "triggerer": sizing_triggerer.measure,
        "broker": sizing_broker.measure,
        "worker": sizing_worker.measure,
        "pod": sizing_pod.measure,
    }
    for name in sys.argv[1:] or parts:
        (work / name).mkdir()
        parts[name](work / name)
    return True


if __name__ == "__main__":
    sys.exit(run(measure))
