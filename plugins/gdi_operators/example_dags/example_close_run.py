"""CloseRunOperator as teardown: whatever becomes of the tasks between, here one fails on purpose, the attempt is closed
at the broker and every gateway.
"""

import os

from airflow.sdk import DAG, task
from airflow.sdk.exceptions import AirflowFailException

from gdi_operators.operators import AdmitRunOperator, CloseRunOperator

WORKFLOW = os.environ.get("GDI_EXAMPLE_WORKFLOW", "allele-frequency")

with DAG("example_close_run", schedule=None, tags={"gdi", "example"}, doc_md=__doc__):
    admit = AdmitRunOperator(task_id="admit", workflow=WORKFLOW)

    @task
    def fail() -> None:
        raise AirflowFailException("this task fails on purpose; look at close")

    (
        admit
        >> fail()
        >> CloseRunOperator(task_id="close", workflow=WORKFLOW, gateway_patience=10).as_teardown(
            setups=admit, on_failure_fail_dagrun=True
        )
    )
