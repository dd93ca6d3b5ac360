"""A workflow with `script:` and grouped jobs on a real federation: Snakemake runs in the task at the node, with no
network and no credential.
"""

from __future__ import annotations

from tests.federation.driver import Driver


def test_a_script_reads_an_archives_file_in_its_task(driver: Driver) -> None:
    run = driver.start(datasets=[driver.layout.dataset("node-a")], workflow="within")
    driver.succeed(run)
    tasks = {t["tags"]["gdi-rule"]: t for t in driver.tasks("node-a", run.run)}
    assert {rule: t["tags"]["gdi-mode"] for rule, t in tasks.items()} == {
        "count": "snakemake",
        "first+second": "direct",
    }
    assert {t["state"] for t in tasks.values()} == {"COMPLETE"}
    assert not any(e.get("env") for t in tasks.values() for e in t["executors"])
