"""Used tickets leave Airflow's database: in a run's conf the word `used` takes their place, as soon as its admission
succeeded, at the latest when it ends.

Airflow calls a DAG run's hooks inside its own transaction, with the run's row attached to its session: what is changed
on the row is stored together with the new state, or not at all. So nothing here opens a session (on SQLite it would
wait for the one that waits for it) and nothing here may raise.
"""

from __future__ import annotations

import logging
from typing import Any

from airflow.listeners import hookimpl

from gdi_operators.runs import USED_TICKET

log = logging.getLogger(__name__)
# task_instance.operator is the class's bare name; a subclass's ticket goes at the end of the run
ADMISSION = "AdmitRunOperator"


@hookimpl
def on_starting(component: Any) -> None:
    """In scheduler, triggerer and dag-processor (a `Job`), not in task processes, which may not touch the database:
    looks at runs as they are stored.
    """
    try:
        from airflow.jobs.job import Job

        if isinstance(component, Job):
            watch()
    except Exception:
        log.exception("Used tickets will stay in conf until their runs end.")


@hookimpl
def on_dag_run_success(dag_run: Any, msg: str) -> None:
    _at_the_end(dag_run)


@hookimpl
def on_dag_run_failed(dag_run: Any, msg: str) -> None:
    """Also of a run that was never admitted: whether its ticket was used is then unknown, and nobody needs it any
    more.
    """
    _at_the_end(dag_run)


def _at_the_end(dag_run: Any) -> None:
    try:
        forget(dag_run)
    except Exception:
        log.exception("The ticket of run %s of %s is still in its conf.", dag_run.run_id, dag_run.dag_id)


def watch() -> None:
    """The scheduler stores a running run's row at each decision about it: the first after the admission is the moment.
    Calling it twice is no error.
    """
    from airflow.models.dagrun import DagRun
    from sqlalchemy import event

    if not event.contains(DagRun, "before_update", _before_update):
        event.listen(DagRun, "before_update", _before_update)


def _before_update(_: Any, connection: Any, dag_run: Any) -> None:
    """SQLAlchemy's mapper event: own columns may be changed, and the connection of the flush be asked, nothing else."""
    try:
        if _ticket(dag_run) and _admitted(connection, dag_run):
            forget(dag_run)
    except Exception:
        log.exception(
            "The ticket of run %s of %s stays in its conf until the run ends.", dag_run.run_id, dag_run.dag_id
        )


def _admitted(connection: Any, dag_run: Any) -> bool:
    from airflow.models.taskinstance import TaskInstance
    from sqlalchemy import select

    found = (
        select(TaskInstance.id)
        .where(TaskInstance.dag_id == dag_run.dag_id, TaskInstance.run_id == dag_run.run_id)
        .where(TaskInstance.operator == ADMISSION, TaskInstance.state == "success")
        .limit(1)
    )
    return connection.scalar(found) is not None


def _ticket(dag_run: Any) -> bool:
    """Whether there is something to forget. Whoever's run it is: a key of this name is never worth keeping."""
    conf = dag_run.conf
    return isinstance(conf, dict) and conf.get("ticket") not in (None, USED_TICKET)


def forget(dag_run: Any) -> bool:
    """Puts `used` in the ticket's place on a row that is attached to a session; whether there was one."""
    if not _ticket(dag_run):
        return False
    dag_run.conf = {
        **dag_run.conf,
        "ticket": USED_TICKET,
    }  # a new dict: a change inside the old one would not be stored
    return True
