"""SnakemakeOperator: a workflow at each node of the plan, with nothing after it. Deferred while it runs; a retry goes
on where it was.
"""

import os
from datetime import timedelta

from airflow.sdk import DAG

from gdi_operators.operators import AdmitRunOperator, CloseRunOperator, SnakemakeOperator

WORKFLOW = os.environ.get("GDI_EXAMPLE_WORKFLOW", "allele-frequency")

with DAG(
    "example_snakemake",
    schedule=None,
    tags={"gdi", "example"},
    doc_md=__doc__,
    default_args={"retries": 2, "retry_delay": timedelta(seconds=10)},
):
    admit = AdmitRunOperator(task_id="admit", workflow=WORKFLOW)
    analyse = SnakemakeOperator.partial(
        task_id="analyse",
        workflow=WORKFLOW,
        max_duration=timedelta(days=2),
        map_index_template="{{ task.item['node'] }}",
    ).expand(item=admit.output)
    analyse >> CloseRunOperator(task_id="close", workflow=WORKFLOW).as_teardown(
        setups=admit, on_failure_fail_dagrun=True
    )
