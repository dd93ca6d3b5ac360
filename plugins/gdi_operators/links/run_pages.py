"""Buttons from a task to the tabs of its run: its jobs, its results."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

from airflow.sdk import BaseOperatorLink

JOBS, RESULTS, NODES = "gdi-jobs", "gdi-results", "gdi-nodes"


class RunJobsLink(BaseOperatorLink):
    """Every job of the run, live; the page is guarded by Airflow's own authorization."""

    name = "Jobs"

    def get_link(self, operator: Any, *, ti_key: Any) -> str:
        return _tab(ti_key, JOBS)


class RunResultsLink(BaseOperatorLink):
    """What was released, the answer, and an RO-Crate of the run."""

    name = "Results"

    def get_link(self, operator: Any, *, ti_key: Any) -> str:
        return _tab(ti_key, RESULTS)


def _tab(ti_key: Any, route: str) -> str:
    return f"/dags/{quote(ti_key.dag_id, safe='')}/runs/{quote(ti_key.run_id, safe='')}/plugin/{route}"
