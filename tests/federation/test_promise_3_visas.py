"""Promise 3: without a valid, trusted visa for every dataset the run is refused before any task exists, naming dataset and reason."""

from __future__ import annotations

from typing import Any

import pytest

from tests.federation.driver import Driver

pytestmark = pytest.mark.xdist_group("federation")

CASES: dict[str, tuple[dict[str, Any] | None, str]] = {
    "no visa": (None, "no-visa"),
    "an expired visa": ({"variant": "expired"}, "expired"),
    "a visa from an untrusted jku": ({"variant": "untrusted-jku"}, "untrusted-issuer"),
    "a visa with a bad signature": ({"variant": "bad-signature"}, "bad-signature"),
}


@pytest.mark.parametrize("case", CASES)
def test_the_run_is_refused_with(case: str, driver: Driver) -> None:
    fields, reason = CASES[case]
    dataset = driver.layout.dataset("node-b")
    driver.entitle("DELETE", {"user": "alice@lifescience-ri.eu", "dataset": dataset})
    try:
        if fields is not None:
            driver.entitle("POST", {"user": "alice@lifescience-ri.eu", "dataset": dataset, **fields})
        run = driver.start({"regions": 1})
        assert driver.finish(run) == "failed"
    finally:
        driver.replace_entitlement(dataset)
    log = driver.task_log(run, "admit")
    assert dataset in log and reason in log, log
    assert driver.all_tasks(run.run) == []
    refused = [e for e in driver.broker_audit(run.run) if not e["allowed"] and e["dataset"] == dataset]
    assert refused and reason in refused[-1]["reason"]
