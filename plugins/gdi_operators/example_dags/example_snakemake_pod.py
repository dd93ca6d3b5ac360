"""SnakemakePodOperator: a workflow at each node, each in a pod of Kubernetes (GDI_POD_CONFIG). Parameters of
KubernetesPodOperator that place or size a pod may be given, within the operator's limits.
"""

import os
from datetime import timedelta

from airflow.sdk import DAG

from gdi_operators.operators import AdmitRunOperator, CloseRunOperator
from gdi_operators.operators.snakemake_pod import SnakemakePodOperator

WORKFLOW = os.environ.get("GDI_EXAMPLE_WORKFLOW", "allele-frequency")

with DAG(
    "example_snakemake_pod",
    schedule=None,
    tags={"gdi", "example"},
    doc_md=__doc__,
    default_args={"retries": 2, "retry_delay": timedelta(seconds=10)},
):
    admit = AdmitRunOperator(task_id="admit", workflow=WORKFLOW)
    analyse = SnakemakePodOperator.partial(
        task_id="analyse",
        workflow=WORKFLOW,
        max_duration=timedelta(days=2),
        labels={"team": "genomics"},
        map_index_template="{{ task.item['node'] }}",
    ).expand(item=admit.output)
    analyse >> CloseRunOperator(task_id="close", workflow=WORKFLOW).as_teardown(
        setups=admit, on_failure_fail_dagrun=True
    )
