"""A button from a task to the live progress page of its run."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

from airflow.sdk import BaseOperatorLink

ROUTE = "gdi-progress"


class RunProgressLink(BaseOperatorLink):
    """Rules by node, live; the page is guarded by Airflow's own authorization."""

    name = "Progress"

    def get_link(self, operator: Any, *, ti_key: Any) -> str:
        return f"/dags/{quote(ti_key.dag_id, safe='')}/runs/{quote(ti_key.run_id, safe='')}/plugin/{ROUTE}"
