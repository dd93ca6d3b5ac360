"""Adds to an answer what a node brought after its run was closed: the next version of it, of the parts that are there
and this one. Nothing is computed again.

Started by `recurring` where there is something to add; safe at any time and twice.
"""

from datetime import timedelta

from airflow.sdk import DAG

from gdi_operators.operators import AddLatePartsOperator

with DAG(
    dag_id="late_parts",
    dag_display_name="Late parts",
    doc_md=__doc__,
    schedule=None,
    catchup=False,
    max_active_runs=1,
    dagrun_timeout=timedelta(hours=1),
    default_args={"owner": "gdi", "retries": 1, "retry_delay": timedelta(seconds=10)},
    tags={"gdi", "operations"},
):
    AddLatePartsOperator(task_id="add_late_parts", task_display_name="Add what came late")
