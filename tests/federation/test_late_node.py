"""A node that is away while a run goes on: the answer is made without it and says so; when it is back it does its part
by itself, after the run was closed, and its part makes the next version. Nothing is computed again.
"""

from __future__ import annotations

import json
import signal
from collections.abc import Callable
from typing import Any

import pytest

from gdi.local_federation.cohort import CohortSite
from tests.federation.driver import Driver, Started, wait_for

pytestmark = pytest.mark.long  # two minutes beside the others
LATE = "node-b"


def summary(driver: Driver, run: Started) -> dict[str, Any]:
    file = driver.layout.results / run.run / "releases.json"
    return dict(json.loads(file.read_text()))


def add_what_came(driver: Driver) -> None:
    """What `recurring` starts each minute; here it has no schedule."""
    portal = driver.portals["alice"]
    answer = portal.airflow("POST", "/api/v2/dags/late_parts/dagRuns", json={"logical_date": None})
    answer.raise_for_status()
    name = answer.json()["dag_run_id"]
    wait_for("the end of late_parts", lambda: portal.dag_run("late_parts", name) == "success", timeout=240, every=1)


def test_a_late_node_delivers_by_itself_and_makes_the_next_version_of_the_answer(
    driver: Driver, pooled: dict[CohortSite, tuple[int, int]], record_property: Callable[[str, object], None]
) -> None:
    supervisor = driver.federation.supervisor
    supervisor.kill(f"{LATE}-agent", signal.SIGSTOP)
    try:
        run = driver.start({"regions": 1, "nodes": {"at_least": 1, "within": 5}})
        driver.succeed(run)
    finally:
        supervisor.kill(f"{LATE}-agent", signal.SIGCONT)
    first = summary(driver, run)
    assert (first["answer_version"], list(first["missing"])) == (1, [LATE])
    assert "its part is added when it comes" in first["missing"][LATE]
    assert (driver.layout.results / run.run / "answer.tsv").read_text().splitlines()[0].endswith("MISSING_NODES")
    computed = {t["id"] for t in driver.tasks("node-a", run.run)}

    def came() -> bool:
        with driver.portals["alice"].broker() as broker:
            orders = {(o.node, o.kind): o.state for o in broker.progress(run.run).orders}
        assert orders.get((LATE, "analyse")) not in ("failed", "refused", "cancelled", "expired"), orders
        return orders.get((LATE, "release")) == "succeeded"

    wait_for("the late node's release", came, timeout=300, every=1)
    add_what_came(driver)
    second = summary(driver, run)
    assert (second["answer_version"], second["missing"]) == (2, {})
    assert [(one["version"], list(one["missing"])) for one in second["earlier"]] == [(1, [LATE])]
    assert {r["node"] for r in second["releases"]} == {"node-a", LATE}
    answer = driver.answer(run, pooled)
    assert answer.exact >= 100 and not answer.wrong
    assert {t["id"] for t in driver.tasks("node-a", run.run)} == computed, "nothing is computed again"
    wait_for("the close at the late node", lambda: closed(driver, run), timeout=60, every=1)
    shown = driver.api("alice").get(f"/v1/runs/{run.run}/results").json()
    assert "versions/1/answer.tsv" in json.dumps(shown), "the version before stays"


def closed(driver: Driver, run: Started) -> bool:
    with driver.portals["alice"].broker() as broker:
        orders = {(o.node, o.kind): o.state for o in broker.progress(run.run).orders}
    return orders.get((LATE, "close")) == "succeeded"
