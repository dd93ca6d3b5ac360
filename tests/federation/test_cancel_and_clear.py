"""A run stopped in Airflow's UI ends everywhere within half a minute; cleared, it goes on in the next attempt and
repeats no finished job.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import httpx

from gdi.contracts.tes import LIVE
from gdi.local_federation.cohort import CohortSite
from gdi.local_federation.parts import core
from tests.federation.driver import Driver, Started, wait_for
from tests.support import wes_schema

PROMISE = 30  # seconds, on a machine that has room for it: the figure
BOUND = 180  # seconds after which the run does not end, however busy the machine is


def attempt(driver: Driver, run: Started) -> tuple[int, str, str]:
    with driver.portals["alice"].broker() as broker:
        known = broker.get_run(run.run)
    return known.attempt, known.state, known.outcome


def pods(driver: Driver, run: Started) -> list[dict[str, Any]]:
    """Of the coordinator's host, and of the nodes' own."""
    found: list[dict[str, Any]] = []
    own = [driver.layout.launcher_socket(node) for node in driver.layout.agents]
    for socket in (core.host_socket(driver.layout), *own):
        with httpx.Client(transport=httpx.HTTPTransport(uds=str(socket)), base_url="http://host", timeout=60) as client:
            found += [p for p in client.get("/pods").json() if p["name"].startswith(run.run)]
    return found


def finished(driver: Driver, run: Started) -> Counter[tuple[str, str]]:
    return Counter(
        (t["tags"]["gdi-node"], t["tags"]["gdi-job"]) for t in driver.all_tasks(run.run) if t["state"] == "COMPLETE"
    )


def wes_state(client: httpx.Client, run: Started) -> str:
    answer = client.get(f"/ga4gh/wes/v1/runs/{run.run}/status")
    wes_schema.check(answer)
    return str(answer.json()["state"])


def seen_through_the_portal(client: httpx.Client, others: httpx.Client, run: Started) -> None:
    """What WES and the API tell the run's user, and nobody else."""
    log = client.get(f"/ga4gh/wes/v1/runs/{run.run}")
    wes_schema.check(log)
    answer = client.get(log.json()["outputs"]["answer.tsv"])
    assert answer.text.startswith("CHROM") and log.json()["request"]["workflow_params"]["slow_seconds"] == 8
    assert log.json()["task_logs"] and all(task["id"] for task in log.json()["task_logs"])
    assert client.get(f"/v1/runs/{run.run}/crate").content.startswith(b"PK")
    shown = client.get(f"/v1/runs/{run.run}").json()
    assert (shown["state"], shown["attempt"], shown["jobs_done"]) == ("succeeded", 2, shown["jobs_total"])
    assert "The answer is there" in shown["sentence"]
    for path in ("", "/jobs", "/results", "/crate", "/files/answer.tsv"):
        assert others.get(f"/v1/runs/{run.run}{path}").status_code == 404, path
    assert run.run not in [r["id"] for r in others.get("/v1/runs").json()["runs"]]


def test_a_stopped_run_ends_everywhere_within_half_a_minute_and_goes_on_when_cleared(
    driver: Driver, pooled: dict[CohortSite, tuple[int, int]], record_property: Callable[[str, object], None]
) -> None:
    client, others = driver.api("alice"), driver.api("bob")
    run = driver.start_by_wes(client, {"regions": 2, "slow_seconds": 8})
    wait_for(
        "a finished and a running task", lambda: driver.running(run.run, "count") and finished(driver, run), timeout=240
    )
    asked = time.monotonic()
    assert wes_state(client, run) == "RUNNING"
    assert others.post(f"/ga4gh/wes/v1/runs/{run.run}/cancel").status_code == 404
    client.post(f"/ga4gh/wes/v1/runs/{run.run}/cancel").raise_for_status()
    wait_for(
        "the end of the TES tasks",
        lambda: not [t for t in driver.all_tasks(run.run) if t["state"] in LIVE],
        timeout=BOUND,
    )
    wait_for(
        "the end of Snakemake",
        lambda: all(p["state"] == "exited" for p in pods(driver, run)),
        timeout=BOUND,
    )
    took = time.monotonic() - asked
    record_property("figure", f"a stopped run ended everywhere after {took:.1f} s (promised: {PROMISE} s)")
    wait_for("the attempt's end", lambda: attempt(driver, run) == (1, "closed", "cancelled"), timeout=BOUND)
    assert driver.finish(run) == "failed"
    wait_for("WES to say so", lambda: wes_state(client, run) == "CANCELED", timeout=60)
    assert client.get(f"/v1/runs/{run.run}").json()["sentence"].startswith("You stopped the run")
    before = finished(driver, run)
    assert before

    changed = driver.federation.workflows / run.workflow / "Snakefile"  # a run goes on with what it was admitted with
    admitted = changed.read_text()
    changed.write_text(admitted + "# a comment\n")
    try:
        goes_on(driver, run, before, pooled)
    finally:
        changed.write_text(admitted)
    wait_for("WES to say so", lambda: wes_state(client, run) == "COMPLETE", timeout=60)
    seen_through_the_portal(client, others, run)


def goes_on(
    driver: Driver, run: Started, before: Counter[tuple[str, str]], pooled: dict[CohortSite, tuple[int, int]]
) -> None:
    """Cleared, in the next attempt."""
    portal, path = driver.portals["alice"], f"/api/v2/dags/{run.workflow}/dagRuns/{run.dag_run}"
    portal.airflow("POST", f"{path}/clear", json={"dry_run": False, "only_failed": False}).raise_for_status()
    wait_for("the next attempt", lambda: attempt(driver, run)[:2] == (2, "open"), timeout=240)
    driver.succeed(run)
    after = finished(driver, run)
    assert set(before) <= set(after) and set(after.values()) == {1}, [job for job, n in after.items() if n > 1]
    assert attempt(driver, run) == (2, "closed", "success")
    answer = driver.answer(run, pooled)
    assert answer.exact >= 100 and not answer.wrong
    rules = {t["task_id"]: t["state"] for t in driver.instances(run) if t["task_id"].startswith("rules.")}
    made = ("rules.sections", "rules.validate", "rules.regions", "rules.count", "rules.gather")
    of_cohorts = ("rules.people", "rules.level")
    assert rules == dict.fromkeys(made, "success") | dict.fromkeys(of_cohorts, "skipped")
