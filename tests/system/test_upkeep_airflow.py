"""Recurring starts and housekeeping in a whole Airflow: by its own schedule, with its database and its execution
API.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gdi.broker_client.client import BrokerClient
from gdi.contracts import broker_api as m
from gdi.contracts.ids import make_run_id
from gdi.runner.sandbox import why_not
from tests.support.airflow_kit import RealAirflow, RulesWorld, wait_for
from tests.support.operators_world import TICKET

pytestmark = [
    pytest.mark.system,
    pytest.mark.xdist_group("airflow"),
    pytest.mark.skipif(why_not() is not None, reason=f"no sandboxes here: {why_not()}"),
]
EVERY_MINUTE = {"GDI_RECURRING_SCHEDULE": "* * * * *", "GDI_HOUSEKEEPING_SCHEDULE": "* * * * *"}
NAME = "recurring__2026-11-22T06:00:00Z__g"


@pytest.fixture
def world(tmp_path: Path) -> Iterator[RulesWorld]:
    made = RulesWorld(tmp_path)
    made.start_host()
    yield made
    made.close()


@pytest.fixture
def airflow(world: RulesWorld) -> Iterator[RealAirflow]:
    made = RealAirflow(world.folder / "airflow", world.environment, **EVERY_MINUTE)
    try:
        made.start()
        yield made
    finally:
        made.close()


def explained(airflow: RealAirflow, dag: str) -> str:
    """What became of the first runs of a DAG."""
    runs = airflow.api("GET", f"/dags/{dag}/dagRuns", params={"limit": 3, "order_by": "run_after"})["dag_runs"]
    return "\n".join(airflow.explain(dag, run["dag_run_id"]) for run in runs)


def test_a_due_start_becomes_one_dag_run_also_when_it_is_made_twice_and_what_is_gone_is_closed(
    world: RulesWorld, airflow: RealAirflow
) -> None:
    wait_for(
        "the DAGs", lambda: all(airflow.has_dag(name) for name in ("probe", "recurring", "housekeeping")), timeout=120
    )
    parameters: dict[str, Any] = {k: v for k, v in world.conf("ok", 0.2).items() if k != "ticket"}
    with BrokerClient(world.environment["GDI_BROKER_URL"], (world.folder / "airflow-token").read_text) as client:
        request = {
            "dag_id": "probe",
            "dag_run_id": "manual__deleted",
            "attempt": 1,
            "workflow": "probe",
            "digest": "sha256:" + "0" * 64,
        }
        client.admit(m.AdmitRequest.model_validate({**request, "parameters": parameters, "ticket": TICKET}))
    start = m.DueStart(due=1.0, workflow="probe", parameters=parameters, dag_run_id=NAME, ticket=TICKET)
    world.broker.due = [start, start]

    try:
        wait_for("both starts told", lambda: len(world.broker.reported) == 2, timeout=150)
    except AssertionError as error:
        raise AssertionError(f"{error}\n{explained(airflow, 'recurring')}") from None
    assert airflow.finish("probe", NAME) == "success", airflow.states("probe", NAME)
    runs = airflow.api("GET", "/dags/probe/dagRuns", params={"limit": 100})["dag_runs"]
    assert [r["dag_run_id"] for r in runs] == [NAME]
    assert TICKET not in str(runs), "a ticket leaves conf as soon as it is used"

    gone = make_run_id("probe", "manual__deleted")
    wait_for("the run without a DAG run is closed", lambda: world.broker.runs[gone].state == "closed", timeout=150)
    assert world.broker.runs[gone].outcome == "cancelled" and all(1 in n.closed for n in world.nodes)
    for dag in ("recurring", "housekeeping"):
        last = airflow.api("GET", f"/dags/{dag}/dagRuns", params={"limit": 100, "order_by": "run_after"})["dag_runs"][0]
        assert airflow.finish(dag, last["dag_run_id"]) == "success", airflow.explain(dag, last["dag_run_id"])
