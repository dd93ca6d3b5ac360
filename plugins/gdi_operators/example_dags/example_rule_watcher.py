"""RuleWatcher: two rules of a workflow as tasks, beside the run that they show. `watch_rules` places a list of them;
this is one by hand.
"""

import os
from datetime import timedelta

from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.sdk import DAG

from gdi_operators.operators import AdmitRunOperator, CloseRunOperator, RuleWatcher, SnakemakeOperator

WORKFLOW = os.environ.get("GDI_EXAMPLE_WORKFLOW", "allele-frequency")
RULES = os.environ.get("GDI_EXAMPLE_RULES", "count,gather").split(",")

with DAG(
    "example_rule_watcher",
    schedule=None,
    tags={"gdi", "example"},
    doc_md=__doc__,
    default_args={"retries": 2, "retry_delay": timedelta(seconds=10)},  # a deferred task may lose a try for nothing
):
    admit = AdmitRunOperator(task_id="admit", workflow=WORKFLOW)
    analyse = SnakemakeOperator.partial(task_id="analyse", workflow=WORKFLOW).expand(item=admit.output)
    close = CloseRunOperator(task_id="close", workflow=WORKFLOW)
    analyse >> close.as_teardown(setups=admit, on_failure_fail_dagrun=True)
    shown = EmptyOperator(
        task_id="shown", trigger_rule="all_done"
    )  # so that no watcher is a leaf, whose failure would be the run's
    admitted = EmptyOperator(task_id="admitted")  # a setup task must be followed by tasks of the rule all_success
    admit >> admitted
    for rule in RULES:
        [admitted, analyse] >> RuleWatcher(task_id=f"rule_{rule}", rule=rule, close=close.task_id) >> shown
