"""Promise 3: without a valid, trusted visa for every dataset the run is refused before any task exists, naming dataset
and reason.
"""

from __future__ import annotations

from typing import Any

from tests.federation.driver import Driver

# dataset → (what REMS says of it, the reason that must be given)
CASES: dict[str, tuple[dict[str, Any] | None, str]] = {
    "EGAD-V-NONE": (None, "no-visa"),
    "EGAD-V-EXPIRED": ({"variant": "expired"}, "expired"),
    "EGAD-V-UNTRUSTED": ({"variant": "untrusted-jku"}, "untrusted-issuer"),
    "EGAD-V-FORGED": ({"variant": "bad-signature"}, "bad-signature"),
}


def test_a_run_without_a_valid_visa_is_refused_before_any_task_naming_dataset_and_reason(driver: Driver) -> None:
    runs = {}
    for dataset, (fields, _) in CASES.items():
        driver.entitle("DELETE", {"user": "alice@lifescience-ri.eu", "dataset": dataset})
        if fields is not None:
            driver.entitle("POST", {"user": "alice@lifescience-ri.eu", "dataset": dataset, **fields})
        runs[dataset] = driver.start({"regions": 1}, datasets=[driver.layout.dataset("node-b"), dataset])
    for dataset, (_, reason) in CASES.items():
        run = runs[dataset]
        assert driver.finish(run) == "failed", dataset
        log = driver.task_log(run, "admit")
        assert dataset in log and reason in log, log
        assert driver.all_tasks(run.run) == []
        refused = [e for e in driver.broker_audit(run.run) if not e["allowed"] and e["dataset"] == dataset]
        assert refused and reason in refused[-1]["reason"], dataset
