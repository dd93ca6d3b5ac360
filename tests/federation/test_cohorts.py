"""A run names a cohort of the nodes' epochs, and the answer is of those people and of nobody else."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from gdi.local_federation.demo import WORKFLOW
from tests.federation.driver import Driver, Started
from tests.support.federation_cohorts import FEMALE, SPLIT, counts_of, exact

NEVER_RUN = "cohort-counts"  # no test of a federation starts it


def ask(driver: Driver, cohort: Mapping[str, Any] | None) -> Started:
    named = {"cohort": cohort} if cohort else {}
    return driver.start({"regions": 1, **named}, datasets=list(SPLIT))


def test_nodes_judge_a_workflow_that_nobody_has_run_yet(driver: Driver) -> None:
    with driver.api("alice") as portal:
        body = {"workflow": NEVER_RUN, "datasets": driver.datasets, "parameters": {}}
        checked = portal.post("/v1/preflight", json=body).raise_for_status().json()
        found = [(node["node"], node["answer"]["admitted"], node["answer"]["reason"]) for node in checked["nodes"]]
        assert found == [(node, True, "") for node in driver.layout.nodes], checked


def test_a_run_is_answered_for_the_level_that_it_names_at_every_node(driver: Driver) -> None:
    driver.succeed(ask(driver, None))
    with driver.api("alice") as portal:
        held = {one["id"]: one["cohorts"] for one in portal.get("/v1/datasets").json()["datasets"]}
        assert [held[dataset]["splits"] for dataset in SPLIT] == [{"sex": ["female", "other"]}] * len(SPLIT)
        for level, reason in (("female", ""), ("intersex", "not-open")):
            body = {"workflow": WORKFLOW, "datasets": list(SPLIT), "parameters": {"cohort": FEMALE | {"level": level}}}
            checked = portal.post("/v1/preflight", json=body).json()
            assert {node["answer"]["reason"] for node in checked["nodes"]} == {reason}
    run = ask(driver, FEMALE)
    driver.succeed(run)
    truth, told = counts_of("female"), exact(driver.layout.results / run.run / "answer.tsv")
    assert told and {site: truth[site] for site in told} == told
    summary = json.loads((driver.layout.results / run.run / "releases.json").read_text())
    assert summary["parameters"]["cohort"] == FEMALE
    named = {one["node"]: one["cohort"] for one in summary["releases"]}
    assert {one["level"] for one in named.values()} == {"female"}
    assert named["node-a"]["epochs"] == {"EGAD-SPLIT-A": 1}
    with driver.api("alice") as portal:
        shown = portal.get(f"/v1/runs/{run.run}/results").json()["releases"]
    assert {(one["node"], one["cohort"]["level"], one["verified"]) for one in shown} == {
        ("node-a", "female", True),
        ("node-b", "female", True),
    }
