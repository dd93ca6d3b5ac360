"""Promise 5: any one process may be killed once; after its restart the run completes with the right answer, and no
finished task runs again.
"""

from __future__ import annotations

import os
import signal
from collections import Counter
from typing import Any

import psutil
import pytest

from gdi.local_federation.cohort import CohortSite
from tests.federation.driver import Driver, wait_for


def kill_snakemake(driver: Driver) -> None:
    """One Snakemake process of one node, inside its sandbox: the pod's own interpreter that runs Snakemake."""
    found = [
        p
        for p in psutil.process_iter(["cmdline"])
        if "snakemake" in " ".join(p.info["cmdline"] or []) and "--executor" in (p.info["cmdline"] or [])
    ]
    mine = [p for p in found if any(a.pid == os.getpid() for a in p.parents())]
    assert mine, "no Snakemake process of this federation was found"
    mine[0].send_signal(signal.SIGKILL)


KILLS: dict[str, Any] = {
    "broker": lambda d: d.federation.supervisor.kill("broker"),
    "gateway": lambda d: d.federation.supervisor.kill("node-a-gateway"),
    "agent": lambda d: d.federation.supervisor.kill("node-b-agent"),
    "snakemake": kill_snakemake,
    "tes": lambda d: d.federation.supervisor.kill("node-b-tes"),
    "scheduler": lambda d: d.federation.supervisor.kill("airflow-scheduler"),
}


@pytest.mark.parametrize("what", KILLS)
def test_a_run_survives_the_kill_of(what: str, driver: Driver, pooled: dict[CohortSite, tuple[int, int]]) -> None:
    run = driver.start({"regions": 2, "slow_seconds": 6})
    wait_for(
        "a finished and a running task",
        lambda: driver.running(run.run, "count") and any(t["state"] == "COMPLETE" for t in driver.all_tasks(run.run)),
    )
    KILLS[what](driver)
    driver.succeed(run)
    answer = driver.answer(run, pooled)
    assert answer.exact >= 100 and not answer.wrong
    done = Counter(
        (t["tags"]["gdi-node"], t["tags"]["gdi-job"]) for t in driver.all_tasks(run.run) if t["state"] == "COMPLETE"
    )
    assert done and set(done.values()) == {1}, (
        f"tasks that ran to completion more than once: {[k for k, n in done.items() if n > 1]}"
    )
