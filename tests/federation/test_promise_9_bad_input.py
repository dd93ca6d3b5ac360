"""Promise 9: bad input gets a clear error and loses nothing."""

from __future__ import annotations

import time
from typing import Any

import pytest

from gdi.local_federation.demo import WORKFLOW
from tests.federation.conftest import broken_line
from tests.federation.driver import Driver, Started


def test_an_unknown_workflow_is_not_found(driver: Driver) -> None:
    answer = driver.portals["alice"].airflow(
        "POST", "/api/v2/dags/no-such-workflow/dagRuns", json={"logical_date": None, "conf": {}}
    )
    assert answer.status_code == 404 and "no-such-workflow" in answer.text


@pytest.mark.parametrize(
    ("parameters", "said"),
    [({"regions": "many"}, "regions"), ({"regions": 0}, "regions"), ({"slow_seconds": -1}, "slow_seconds")],
    ids=["wrong type", "out of range", "negative"],
)
def test_wrong_parameters_are_refused_at_the_door(parameters: dict[str, Any], said: str, driver: Driver) -> None:
    body = {"logical_date": None, "conf": {"ticket": "gdit_none", "datasets": driver.datasets, **parameters}}
    answer = driver.portals["alice"].airflow("POST", f"/api/v2/dags/{WORKFLOW}/dagRuns", json=body)
    assert answer.status_code == 400 and said in answer.text, answer.text


def admit_fails(driver: Driver, conf: dict[str, Any], *said: str) -> None:
    dag_run = f"bad-{time.time_ns()}"
    answer = driver.portals["alice"].airflow(
        "POST", f"/api/v2/dags/{WORKFLOW}/dagRuns", json={"dag_run_id": dag_run, "logical_date": None, "conf": conf}
    )
    assert answer.is_success, answer.text
    run = Started(WORKFLOW, dag_run, "")
    assert driver.finish(run) == "failed"
    log = driver.task_log(run, "admit")
    for word in said:
        assert word in log, log


def test_missing_datasets_are_named(driver: Driver) -> None:
    body = {"logical_date": None, "conf": {"ticket": "gdit_none", "regions": 1}}
    answer = driver.portals["alice"].airflow("POST", f"/api/v2/dags/{WORKFLOW}/dagRuns", json=body)
    assert answer.status_code == 400 and "datasets" in answer.text


def test_an_undeclared_key_in_conf_is_refused_by_name(driver: Driver) -> None:
    admit_fails(driver, {"ticket": "gdit_none", "datasets": driver.datasets, "sneaky": 1}, "sneaky")


def test_a_dataset_that_no_node_has_is_refused_by_name(driver: Driver) -> None:
    driver.entitle("POST", {"user": "alice@lifescience-ri.eu", "dataset": "EGAD-NOWHERE"})
    run = driver.start({"regions": 1}, datasets=[driver.datasets[0], "EGAD-NOWHERE"])
    assert driver.finish(run) == "failed"
    log = driver.task_log(run, "admit")
    assert "EGAD-NOWHERE" in log and "unknown-dataset" in log, log


def test_bad_files_fail_their_run_with_the_true_reason_and_nothing_else(driver: Driver) -> None:
    """All at once, so that they also show that one run's bad file does not hurt another run."""
    wanted = {
        "EGAD-MISSING": ("MissingInputException on dataset EGAD-MISSING",),
        "EGAD-TRUNCATED": ("EGAD-TRUNCATED",),
        "EGAD-NOT-CRYPT4GH": ("NotCrypt4GH", "EGAD-NOT-CRYPT4GH"),
        "EGAD-BROKEN-VCF": ("VcfFormatError", f"line {broken_line()}"),
        "EGAD-XML": ("ArchiveError", "EGAD-XML"),
    }
    pids = {part: driver.federation.supervisor.pid(part) for part in ("node-a-tes", "node-a-gateway", "node-a-sda")}
    runs = {dataset: driver.start({"regions": 1}, datasets=[dataset]) for dataset in wanted}
    for dataset, run in runs.items():
        assert driver.finish(run) == "failed", dataset
        log = driver.task_log(run, "analyse", map_index=0)
        for word in wanted[dataset]:
            assert word in log, f"{dataset}: {word} is not in:\n{log}"
    assert pids == {part: driver.federation.supervisor.pid(part) for part in pids}, "every server lived through it"
