"""`helm install` to the first run that is admitted, and a rolling update under fifty token requests a second."""

from __future__ import annotations

import sys
import time
from pathlib import Path

from tests.bench.airflow.report import row, run
from tests.bench.kubernetes.rig import a_coordinator
from tests.kubernetes.load import RATE, updated


def measure(work: Path) -> bool:
    with a_coordinator(work) as world:
        started = time.monotonic()
        with world.user("alice") as alice:
            _, admitted = world.started(alice)
        row("helm_install_to_first_run_admitted", world.install_seconds + time.monotonic() - started, "s")
        load, took = updated(world, admitted.id, world.audience(admitted))
    row("rolling_update", took, "s")
    row("rolling_update_token_requests", sum(load.seen.values()), f"requests_at_{RATE}/s")
    row("rolling_update_slowest_request", load.slowest, "s")
    failed = sum(load.failed.values())
    if failed:
        print(f"# failed: {load.failed}")
    return row("rolling_update_failed_requests", failed, "requests", "0", failed == 0)


if __name__ == "__main__":
    sys.exit(run(measure))
