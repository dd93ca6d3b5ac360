"""Whether a task still waits for a pod whose trigger is told to end: then another triggerer or another try has it.

Airflow calls `on_kill` for every trigger that a triggerer runs and is no longer assigned. That is more than what a user
ended: a triggerer that stalls for longer than `triggerer_health_check_threshold` and recovers finds its triggers with
another one, and ends them in the same way (Airflow 3.3.2; https://github.com/apache/airflow/pull/73454, open). A user
who fails, succeeds or clears a task takes it out of the state `deferred` before its trigger goes.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Protocol

log = logging.getLogger(__name__)

DEFERRED = "deferred"
PAUSE = 1.0  # seconds between two questions while Airflow does not answer


class TaskOfTrigger(Protocol):
    """What a trigger knows of its task (airflow.executors.workloads.TaskInstance)."""

    dag_id: str
    task_id: str
    run_id: str
    map_index: int


async def still_deferred(task: TaskOfTrigger | None, *, patience: float) -> bool:
    """Whether Airflow has the task in the state `deferred`. Asked again for `patience` seconds while Airflow does not
    answer; then True, so that the pod is left alone: the run's close ends what a user wanted ended.

    `task` None: the trigger runs outside a triggerer, where nobody else can have it.
    """
    if task is None:
        return False
    try:
        async with asyncio.timeout(patience):
            while True:
                try:
                    return await asyncio.to_thread(_state, task) == DEFERRED
                except Exception as error:  # of any kind: the supervisor or the api-server is away
                    log.warning("Airflow does not tell the task's state (%s); asking again.", type(error).__name__)
                await asyncio.sleep(PAUSE)
    except TimeoutError:
        return True


def _state(task: TaskOfTrigger) -> str:
    """The task's state in Airflow's words; "" where there is none, or no such task any more."""
    from airflow.sdk.execution_time.task_runner import RuntimeTaskInstance

    found = RuntimeTaskInstance.get_task_states(
        dag_id=task.dag_id, task_ids=[task.task_id], run_ids=[task.run_id], map_index=task.map_index
    )
    states = found.get(task.run_id, {})
    # Airflow's route suffixes the key with `_MAPINDEX` where the task is mapped.
    key = task.task_id if task.map_index < 0 else f"{task.task_id}_{task.map_index}"
    return str(states.get(key) or "")
