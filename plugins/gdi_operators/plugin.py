"""GdiPlugin: what Airflow loads by the entry point `airflow.plugins`. The pages' application is made only where the
api-server asks for it.
"""

from __future__ import annotations

import logging
import sys
from typing import Any, ClassVar

from airflow.configuration import conf
from airflow.plugins_manager import AirflowPlugin

from gdi_operators.links.review import ReviewLink
from gdi_operators.links.run_pages import JOBS, NODES, RESULTS, RunJobsLink, RunResultsLink
from gdi_operators.listeners import forked_steps, used_tickets

log = logging.getLogger(__name__)
PREFIX = "/gdi"


def _apps() -> list[dict[str, Any]]:
    """The pages' application; loading it takes a second, and most components serve nothing."""
    if not _serves():
        return []
    if "ticket" not in [name.strip() for name in conf.get("core", "sensitive_var_conn_names", fallback="").split(",")]:
        log.warning(
            "Airflow's audit log will keep the tickets of starts in clear: set sensitive_var_conn_names = ticket in"
            " [core]."
        )
    from gdi_operators.pages import create_app

    return [{"app": create_app(), "url_prefix": PREFIX, "name": "GDI run pages"}]


ELSEWHERE = {
    "scheduler",
    "triggerer",
    "dag-processor",
    "celery",
    "tasks",
    "db",
}  # they import parts of the api-server, and serve nothing


def _serves() -> bool:
    if "airflow.api_fastapi" in sys.modules:
        return not ELSEWHERE & set(sys.argv[:3])
    return any(a in ("api-server", "standalone", "plugins") for a in sys.argv)


def _middlewares() -> list[dict[str, Any]]:
    if not _serves() or not conf.get("database", "sql_alchemy_conn").startswith("sqlite"):
        return []
    from gdi_operators.sqlite_write_lock import SqliteWriteLock

    return [{"middleware": SqliteWriteLock, "name": "GDI one writer"}]


def _cards() -> list[dict[str, str]]:
    """The card of Airflow's home page, below its `<base>`; the address changes with the script."""
    if not _serves():
        return []
    from gdi_operators import ui

    address = f"{PREFIX[1:]}/assets/{ui.version()}/home.js"
    return [{"name": "GDI runs", "bundle_url": address, "destination": "dashboard"}]


class GdiPlugin(AirflowPlugin):
    name = "gdi"
    fastapi_apps: ClassVar[list[dict[str, Any]]] = _apps()
    fastapi_root_middlewares: ClassVar[list[dict[str, Any]]] = _middlewares()
    external_views: ClassVar[list[dict[str, str]]] = [
        {"name": "Jobs", "href": f"{PREFIX}/jobs/{{DAG_ID}}/{{RUN_ID}}", "destination": "dag_run", "url_route": JOBS},
        {
            "name": "Results",
            "href": f"{PREFIX}/results/{{DAG_ID}}/{{RUN_ID}}",
            "destination": "dag_run",
            "url_route": RESULTS,
        },
        {"name": "Nodes", "href": f"{PREFIX}/nodes", "destination": "nav", "category": "browse", "url_route": NODES},
    ]
    react_apps: ClassVar[list[dict[str, str]]] = _cards()
    listeners: ClassVar[list[Any]] = [used_tickets, forked_steps]
    operator_extra_links: ClassVar[list[Any]] = [RunJobsLink(), RunResultsLink(), ReviewLink()]
