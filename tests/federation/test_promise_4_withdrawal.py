"""Promise 4: access withdrawn during a run: the next read is denied, the node's run fails naming the dataset, the other
node is told, the TES lives on.
"""

from __future__ import annotations

from tests.federation.driver import Driver, wait_for


def test_withdrawn_access_stops_the_run_at_the_next_read(driver: Driver) -> None:
    dataset = driver.layout.dataset("node-b")
    tes_pid = driver.federation.supervisor.pid("node-b-tes")
    # Both nodes must still be at work when node-b fails. A region takes 8 s, so that no machine is too slow to see it.
    run = driver.start({"regions": 32, "slow_seconds": 8})
    wait_for("node-a is at work", lambda: driver.tasks("node-a", run.run), timeout=240)
    if (
        driver.federation.funnel
    ):  # it seems to read the inputs of all tasks as they come, however few run: later there is no next read
        wait_for(
            "the split at node-b has read",
            lambda: any(t["state"] in ("RUNNING", "COMPLETE") for t in driver.tasks("node-b", run.run)),
            timeout=240,
        )
    else:
        wait_for("the first slow task at node-b", lambda: driver.running(run.run, "count", node="node-b"), timeout=240)
    driver.entitle("DELETE", {"user": "alice@lifescience-ri.eu", "dataset": dataset})
    try:
        assert driver.finish(run) == "failed"
    finally:
        driver.replace_entitlement(dataset)
    logs = {
        t["map_index"]: driver.task_log(run, "analyse", map_index=t["map_index"])
        for t in driver.instances(run)
        if t["task_id"] == "analyse"
    }
    failed = [log for log in logs.values() if "AccessDenied" in log]
    assert failed and dataset in failed[0], "the failing node's log names the dataset"
    assert any("The order at node-a is ended: node node-b failed" in log for log in logs.values()), (
        "the other node's task says that its order is ended, and for which node: " + "\n".join(logs.values())[-20_000:]
    )
    progress = driver.portals["alice"].progress(run.run)
    assert progress is not None and progress.failing is not None
    assert progress.failing.node == "node-b" and progress.failing.dataset == dataset
    assert any(not e["allowed"] and dataset in str(e) for e in driver.audit("node-b")), (
        "the denial is in the gateway's audit"
    )
    assert driver.federation.supervisor.pid("node-b-tes") == tes_pid, "the TES lives on"
    assert all(t["state"] not in ("QUEUED", "INITIALIZING", "RUNNING") for t in driver.all_tasks(run.run)), (
        "no task is left"
    )
