"""ReleaseOperator: asks each node to check and publish one declared output, then hands on what it said of it (never a
value).
"""

import os
from datetime import timedelta
from typing import Any

from airflow.sdk import DAG, task

from gdi_operators.operators import AdmitRunOperator, CloseRunOperator, ReleaseOperator, SnakemakeOperator

WORKFLOW = os.environ.get("GDI_EXAMPLE_WORKFLOW", "allele-frequency")
RELEASE = os.environ.get("GDI_EXAMPLE_RELEASE", "allele-counts")

with DAG(
    "example_release",
    schedule=None,
    tags={"gdi", "example"},
    doc_md=__doc__,
    default_args={"retries": 2, "retry_delay": timedelta(seconds=10)},  # a deferred task may lose a try for nothing
):
    admit = AdmitRunOperator(task_id="admit", workflow=WORKFLOW)
    analyse = SnakemakeOperator.partial(task_id="analyse", workflow=WORKFLOW).expand(item=admit.output)
    release = ReleaseOperator.partial(task_id="release", workflow=WORKFLOW, release=RELEASE).expand(item=admit.output)

    @task
    def report(released: list[dict[str, Any]]) -> dict[str, int]:
        return {one["node"]: one["sites_withheld"] for one in released}

    analyse >> release
    report(release.output) >> CloseRunOperator(task_id="close", workflow=WORKFLOW).as_teardown(
        setups=admit, on_failure_fail_dagrun=True
    )
