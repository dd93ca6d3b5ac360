"""A scheduler that forks its steps (LocalExecutor) imports what they need before it forks its first worker."""

from __future__ import annotations

import logging
import sys
from typing import Any

from airflow.listeners import hookimpl

log = logging.getLogger(__name__)


@hookimpl
def on_starting(component: Any) -> None:
    """Called before a component's work begins. What fails here is no reason not to start: steps then import for
    themselves.
    """
    try:
        from airflow.configuration import conf
        from airflow.jobs.job import Job

        if (
            isinstance(component, Job)
            and sys.argv[1:2] == ["scheduler"]
            and "LocalExecutor" in conf.get("core", "executor")
        ):
            import gdi_operators.preload  # noqa: F401
    except Exception:
        log.exception("Each step will import its code for itself.")
