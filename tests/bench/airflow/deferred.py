"""`deferred.py RUNS_AND_PODS.json`, with Airflow's environment: runs of the DAG `sizing` whose tasks wait for pods,
though no worker started them.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any


def main(wanted: dict[str, list[dict[str, Any]]]) -> None:
    """By DAG run: the trigger's arguments for each of its tasks, in order."""
    from airflow.api.common.trigger_dag import trigger_dag
    from airflow.models.taskinstance import TaskInstance
    from airflow.models.trigger import Trigger
    from airflow.utils.session import create_session
    from airflow.utils.types import DagRunTriggeredByType
    from sqlalchemy import select

    for name, producers in wanted.items():
        trigger_dag("sizing", run_id=name, conf={}, triggered_by=DagRunTriggeredByType.TEST)
        with create_session() as session:
            tasks = session.scalars(
                select(TaskInstance).where(TaskInstance.run_id == name).order_by(TaskInstance.task_id)
            ).all()
            for task, arguments in zip(tasks, producers, strict=True):
                trigger = Trigger(classpath="gdi_operators.triggers.snakemake.SnakemakeTrigger", kwargs=arguments)
                session.add(trigger)
                session.flush()
                task.state, task.trigger_id, task.next_method, task.next_kwargs = "deferred", trigger.id, "resume", {}


if __name__ == "__main__":
    main(json.loads(Path(sys.argv[1]).read_text()))
