"""Starts what standing grants have due, every minute: a DAG run of the workflow for each start, once, also after
downtime. Where a node brought its part after its run was closed, the DAG `late_parts` is started, which adds it. What
is new in the catalogue is brought to the broker, so that nodes can judge it before its first run.

What is due, and what of it is caught up, the broker says; each run then checks the user's visas anew when it admits
itself.
"""

from datetime import timedelta

from airflow.sdk import DAG

from gdi_operators.operators import StartDueOperator
from gdi_operators.settings import settings

with DAG(
    dag_id="recurring",
    dag_display_name="Recurring starts",
    doc_md=__doc__,
    schedule=settings().recurring_schedule or None,
    catchup=False,
    max_active_runs=1,
    dagrun_timeout=timedelta(minutes=30),
    default_args={"owner": "gdi", "retries": 1, "retry_delay": timedelta(seconds=10)},
    tags={"gdi", "operations"},
):
    StartDueOperator(task_id="start_due", task_display_name="Start what is due")
