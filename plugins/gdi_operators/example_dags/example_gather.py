"""GatherOperator: proves the signature of every node's release and makes one answer of them; the whole road in a DAG of
one's own.
"""

import os
from datetime import timedelta
from typing import Any

from airflow.sdk import DAG, task

from gdi_operators.operators import (
    AdmitRunOperator,
    CloseRunOperator,
    GatherOperator,
    ReleaseOperator,
    SnakemakeOperator,
)

WORKFLOW = os.environ.get("GDI_EXAMPLE_WORKFLOW", "allele-frequency")
RELEASE = os.environ.get("GDI_EXAMPLE_RELEASE", "allele-counts")

with DAG(
    "example_gather",
    schedule=None,
    tags={"gdi", "example"},
    doc_md=__doc__,
    default_args={"retries": 2, "retry_delay": timedelta(seconds=10)},  # a deferred task may lose a try for nothing
):
    admit = AdmitRunOperator(task_id="admit", workflow=WORKFLOW)
    analyse = SnakemakeOperator.partial(task_id="analyse", workflow=WORKFLOW).expand(item=admit.output)
    release = ReleaseOperator.partial(task_id="release", workflow=WORKFLOW, release=RELEASE).expand(item=admit.output)
    gather = GatherOperator(task_id="gather", workflow=WORKFLOW, releases=release.output)

    @task
    def tell(answer: dict[str, Any]) -> str:
        return f"{answer['alleles']} alleles, {answer['withheld']} withheld: {answer['answer']}"

    analyse >> release
    tell(gather.output) >> CloseRunOperator(task_id="close", workflow=WORKFLOW).as_teardown(
        setups=admit, on_failure_fail_dagrun=True
    )
