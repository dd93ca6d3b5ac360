"""RuleWatcher: a task for a rule of the workflow, green or red as its jobs are, that costs no worker."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NoReturn

from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.sdk import BaseOperator, TaskGroup
from airflow.sdk.definitions.param import ParamsDict
from airflow.sdk.exceptions import AirflowSkipException
from airflow.triggers.base import StartTriggerArgs

from gdi_operators.links.run_pages import RunJobsLink

GROUP, ADMITTED, SHOWN = "rules", "admitted", "rules_shown"
TOOLTIP = (
    "A task for each rule, over all nodes: deferred while it waits or runs, red where any node's is red. The tab Jobs"
    " tells more."
)


class RuleWatcher(BaseOperator):
    """Deferred by the scheduler itself (`start_from_trigger`) while the rule waits or runs; its trigger ends it:
    success, failed (a job of any node failed for good) or skipped (no job in this run).

    rule: its name. admit, close: ids of the tasks that begin and end the run. It decides nothing about the run: place
    it with `watch_rules`. Cleared, it looks again.
    """

    start_from_trigger = True
    operator_extra_links = (RunJobsLink(),)
    ui_color = "#eef6e8"

    def __init__(
        self,
        *,
        rule: str,
        admit: str = "admit",
        close: str = "close",
        token_broker_conn_id: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            **{"retries": 0, "trigger_rule": "one_success", "priority_weight": 1, "weight_rule": "absolute", **kwargs}
        )
        self.rule = rule
        # The triggerer resolves a task's own copy of the DAG's params without conf, and dies of a required one. The
        # watcher uses none.
        self.params = ParamsDict()
        self.start_trigger_args = StartTriggerArgs(
            trigger_cls="gdi_operators.triggers.rule.RuleTrigger",
            trigger_kwargs={"rule": rule, "admit": admit, "close": close, "token_broker_conn_id": token_broker_conn_id},
            next_method="execute",
        )

    def execute(self, context: Any) -> NoReturn:
        raise AirflowSkipException(
            "Rules are shown by the triggerer alone; a worker (and dag.test) has nothing to watch."
        )

    def resume_execution(
        self, next_method: str, next_kwargs: dict[str, Any] | None, context: Any
    ) -> NoReturn:  # as Airflow declares it
        """Only where the trigger could not even start: not loaded, or killed by Airflow."""
        raise AirflowSkipException(
            f"Rule {self.rule} is not shown: its trigger failed, which says nothing about the rule. See the triggerer's"
            " log."
        )


def watch_rules(
    rules: Sequence[str], *, admit: Any, analyse: Any, close: str = "close", token_broker_conn_id: str | None = None
) -> TaskGroup:
    """A group `rules` with a watcher for each of the rules, in the DAG of the `with` block.

    They start when `admit` succeeded, beside `analyse` (rule `one_success`), and are cleared with it, being downstream
    of it. Behind them stands an empty task, `rules_shown`, that succeeds whatever they say: so no watcher is a leaf of
    the DAG, and none can fail the run.
    """
    with TaskGroup(GROUP, tooltip=TOOLTIP) as group:
        for rule in rules:
            RuleWatcher(
                task_id=rule,
                task_display_name=rule,
                rule=rule,
                admit=admit.task_id,
                close=close,
                token_broker_conn_id=token_broker_conn_id,
            )
    shown = EmptyOperator(task_id=SHOWN, task_display_name="All rules shown", trigger_rule="all_done", retries=0)
    # Airflow refuses a DAG with a setup task (`admit`) directly before a task of any rule but all_success.
    admitted = EmptyOperator(task_id=ADMITTED, task_display_name="Admitted", retries=0)
    admit >> admitted
    [admitted, analyse] >> group >> shown
    return group
