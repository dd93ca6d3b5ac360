"""AdmitRunOperator alone: may this user read these datasets now? Refused: failed, with dataset, reason and where to
apply. Nothing is started.
"""

import os
from typing import Any

from airflow.sdk import DAG, task

from gdi_operators.operators import AdmitRunOperator, CloseRunOperator

WORKFLOW = os.environ.get("GDI_EXAMPLE_WORKFLOW", "allele-frequency")

with DAG("example_admit_run", schedule=None, tags={"gdi", "example"}, doc_md=__doc__):
    admit = AdmitRunOperator(task_id="admit", workflow=WORKFLOW)

    @task
    def say(item: dict[str, Any]) -> str:
        return f"{item['node']} may read {', '.join(item['datasets'])}"

    say.expand(item=admit.output) >> CloseRunOperator(task_id="close", workflow=WORKFLOW).as_teardown(
        setups=admit, on_failure_fail_dagrun=True
    )
