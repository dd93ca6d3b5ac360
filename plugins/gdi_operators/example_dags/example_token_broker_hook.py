"""TokenBrokerHook in a task of one's own, by an Airflow connection: who is admitted to what, and how far the run is."""

import os
from typing import Any

from airflow.sdk import DAG, task

from gdi_operators.hooks.token_broker import TokenBrokerHook
from gdi_operators.operators import AdmitRunOperator, CloseRunOperator

WORKFLOW = os.environ.get("GDI_EXAMPLE_WORKFLOW", "allele-frequency")
CONNECTION = "gdi_token_broker_default"  # type "GDI token broker"

with DAG("example_token_broker_hook", schedule=None, tags={"gdi", "example"}, doc_md=__doc__):
    admit = AdmitRunOperator(task_id="admit", workflow=WORKFLOW, token_broker_conn_id=CONNECTION)

    @task
    def look(items: list[dict[str, Any]]) -> dict[str, str]:
        hook = TokenBrokerHook(CONNECTION)
        try:
            return {node.node: node.state for node in hook.progress(items[0]["run"]).nodes}
        finally:
            hook.close()

    close = CloseRunOperator(task_id="close", workflow=WORKFLOW, token_broker_conn_id=CONNECTION)
    look(admit.output) >> close.as_teardown(setups=admit, on_failure_fail_dagrun=True)
