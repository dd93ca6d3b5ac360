"""Placement `coordinator`, kept whole: one node is placed so while the federation runs. It waits for a person, survives
the kill of its Snakemake, and the answer is right. The other node's review is that of placement `node`.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
import yaml

from gdi.local_federation.cohort import CohortSite
from tests.federation.driver import Driver, Started, wait_for
from tests.support import federation_cohorts as split
from tests.support.federation_border import forbidden, leaving, sample_names

BOTH = ("node-a", "node-b")


def changed(file: Path, **values: Any) -> None:
    """An operator's file with other values, in one step."""
    draft = file.with_suffix(".draft")
    draft.write_text(yaml.safe_dump({**yaml.safe_load(file.read_text()), **values}))
    draft.replace(file)


def place(driver: Driver, placement: str, reason: str, *, review: bool) -> None:
    """node-a, by both of its operators' word; at node-b a person looks at each release, or not."""
    folder = driver.layout.work / "nodes"
    changed(folder / "node-a" / "gateway" / "policy.yaml", placement=placement, accept_unattested=reason)
    changed(folder / "node-b" / "gateway" / "policy.yaml", review=review)
    enrolment = driver.layout.work / "broker" / "enrolment.yaml"
    first, *others = yaml.safe_load(enrolment.read_text())["nodes"]
    assert first["id"] == "node-a"
    changed(enrolment, nodes=[{**first, "placement": placement}, *others])


@pytest.fixture(scope="module", autouse=True)
def placed(driver: Driver) -> Iterator[None]:
    file = driver.layout.work / "nodes" / "node-a" / "gateway" / "policy.yaml"
    reason = yaml.safe_load(file.read_text())["accept_unattested"]
    place(driver, "coordinator", "", review=True)
    yield
    place(driver, "node", reason, review=False)


def kill_its_snakemake(driver: Driver) -> None:
    pid = driver.federation.supervisor.pid("host")
    assert pid is not None
    host = psutil.Process(pid)
    found = [p for p in host.children(recursive=True) if {"--executor"} <= set(p.cmdline())]
    assert found, "the coordinator's own host runs it"
    found[0].send_signal(signal.SIGKILL)


def waiting(driver: Driver, node: str, run: Started) -> dict[str, Any] | None:
    with inside(driver, node) as http:
        found = http.get("/review").json()["waiting"]
    return next((one for one in found if one["run"] == run.run), None)


def recount(driver: Driver, node: str, run: Started, name: str) -> list[list[Any]] | None:
    """The rows that the node's own task counted again, once it has."""
    with inside(driver, node) as http:
        found = http.get(f"/review/{run.run}/{name}/recount").json()
    if "could not be sent" in found["sentence"]:  # a release waits a moment before its task is sent
        return None
    assert "Not counted" not in found["sentence"] and "failed" not in found["sentence"], found
    return found["rows"] or None


def inside(driver: Driver, node: str) -> httpx.Client:
    transport = httpx.HTTPTransport(uds=str(driver.layout.internal_socket(node)))
    return httpx.Client(transport=transport, base_url="http://gateway", timeout=60)


def test_the_answer_is_right_after_a_kill_and_a_persons_look_at_each_node(
    driver: Driver, pooled: dict[CohortSite, tuple[int, int]]
) -> None:
    run = driver.start({"regions": 2, "slow_seconds": 4})
    wait_for("a running task", lambda: driver.running(run.run, "count", node="node-a"), timeout=240)
    kill_its_snakemake(driver)
    cases = {
        node: wait_for(f"what {node} asks", lambda node=node: waiting(driver, node, run), timeout=240) for node in BOTH
    }
    assert not (driver.layout.result_store / "releases" / run.run).exists(), "nothing left before a person looked"
    for node, case in cases.items():
        found = wait_for(f"the recount at {node}", partial(recount, driver, node, run, case["name"]), timeout=120)
        assert len(found) == 20 and all(agrees for *_, agrees in found), found
        decision = {"sha256": case["sha256"], "reviewer": "bob", "approve": True}
        with inside(driver, node) as http:
            assert http.post(f"/review/{run.run}/{case['name']}", json=decision).status_code == 204
    driver.succeed(run)
    answer = driver.answer(run, pooled)
    assert answer.exact >= 100 and not answer.wrong
    done = [t["tags"] for t in driver.all_tasks(run.run) if t["state"] == "COMPLETE"]
    assert len({(t["gdi-node"], t["gdi-job"]) for t in done}) == len(done), "no finished task ran again"
    for file in leaving(driver, "node-a"):
        assert forbidden(file.read_bytes(), sample_names()) == [], file.name


def test_a_cohort_is_named_where_the_coordinator_starts_snakemake(driver: Driver) -> None:
    """The node's word comes before Snakemake; what leaves is of that level's people."""
    place(driver, "coordinator", "the test plays the coordinator", review=True)
    asked = partial(driver.start, datasets=["EGAD-SPLIT-A"])
    wrong, whole = (asked({"regions": 1, **more}) for more in ({"cohort": split.FEMALE | {"level": "male"}}, {}))
    driver.succeed(whole)
    assert driver.finish(wrong) == "failed" and driver.all_tasks(wrong.run) == [], "no such level is open"
    run = asked({"regions": 1, "cohort": split.FEMALE})
    driver.succeed(run)
    truth, told = split.counts_of("female", [0]), split.exact(driver.layout.results / run.run / "answer.tsv")
    assert told and {site: truth[site] for site in told} == told
