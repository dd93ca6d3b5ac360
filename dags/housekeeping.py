"""Closes runs that were left open (a deleted DAG run, an Airflow that died in the middle), and with them their tasks
and capabilities at the nodes.

Safe at any time and twice at once. What else is to be tidied, its owner does: the broker removes grants and tickets
that ended, each node's gateway empties workspaces after its own policy's `retention_days`.
"""

from datetime import timedelta

from airflow.sdk import DAG

from gdi_operators.operators import CloseLeftoverRunsOperator
from gdi_operators.settings import settings

with DAG(
    dag_id="housekeeping",
    dag_display_name="Housekeeping",
    doc_md=__doc__,
    schedule=settings().housekeeping_schedule or None,
    catchup=False,
    max_active_runs=1,
    dagrun_timeout=timedelta(hours=1),
    default_args={"owner": "gdi", "retries": 1, "retry_delay": timedelta(minutes=1)},
    tags={"gdi", "operations"},
):
    CloseLeftoverRunsOperator(task_id="close_leftover_runs", task_display_name="Close runs that were left open")
