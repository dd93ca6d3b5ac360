"""The run's live page: rules by node, read from the broker on the server's side. Guarded by Airflow's own authorization; what nodes said is shown as text."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import httpx
from airflow.api_fastapi.auth.managers.models.resource_details import DagAccessEntity
from airflow.api_fastapi.core_api.security import GetUserDep, requires_access_dag
from airflow.models.dagrun import DagRun
from airflow.utils.session import create_session
from fastapi import Depends, FastAPI
from fastapi.responses import JSONResponse, Response
from sqlalchemy import select

from gdi_common.problem import ProblemError
from gdi_operators.hooks.token_broker import TokenBrokerHook
from gdi_operators.runs import run_id
from gdi_operators.settings import SettingsError

PREFIX = "/gdi"
HERE = Path(__file__).parent
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'self'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}
ASSETS = {"page.js": "text/javascript", "page.css": "text/css"}
may_see_run = Depends(requires_access_dag(method="GET", access_entity=DagAccessEntity.RUN))


def create_app() -> FastAPI:
    """Mounted at /gdi of the api-server: `page/{dag}/{run}`, `progress/{dag}/{run}`, and the page's script and style."""
    app = FastAPI(title="GDI run progress", docs_url=None, redoc_url=None, openapi_url=None)

    @app.get("/assets/{name}")
    async def asset(name: str, user: GetUserDep) -> Response:
        if name not in ASSETS:
            return JSONResponse({"detail": "There is no such file."}, status_code=404, headers=HEADERS)
        return Response((HERE / name).read_text(), media_type=ASSETS[name], headers=HEADERS)

    @app.get("/page/{dag_id}/{dag_run_id:path}", dependencies=[may_see_run])
    async def page(dag_id: str, dag_run_id: str) -> Response:
        return Response((HERE / "page.html").read_text(), media_type="text/html", headers=HEADERS)

    @app.get("/progress/{dag_id}/{dag_run_id:path}", dependencies=[may_see_run])
    async def progress(dag_id: str, dag_run_id: str) -> Response:
        status, body = await read_progress(dag_id, dag_run_id)
        if body.get("state") == "not-admitted":
            body["airflow"] = await asyncio.to_thread(airflow_state, dag_id, dag_run_id)
        return JSONResponse(body, status_code=status, headers=HEADERS)

    return app


def airflow_state(dag_id: str, dag_run_id: str) -> str | None:
    """What Airflow says of a DAG run that the broker does not know: it waits, or it was refused."""
    with create_session() as session:
        state = session.scalar(select(DagRun.state).where(DagRun.dag_id == dag_id, DagRun.run_id == dag_run_id))
    return None if state is None else str(state)


async def read_progress(dag_id: str, dag_run_id: str) -> tuple[int, dict[str, Any]]:
    """The broker's Progress of the run as JSON; `{"state": "not-admitted"}` while it knows none; 503 with a sentence where it is away."""
    try:
        client = await TokenBrokerHook().aget_conn()
    except SettingsError as error:
        return 503, {"detail": str(error)}
    try:
        return 200, (await client.progress(run_id(dag_id, dag_run_id))).model_dump(mode="json")
    except ProblemError as error:
        if error.problem.status == 404:
            return 200, {"state": "not-admitted", "nodes": [], "rules": []}
        return 503, {"detail": f"The broker answered: {error}"}
    except (httpx.HTTPError, FileNotFoundError) as error:
        return 503, {"detail": f"The broker does not answer ({type(error).__name__}). The run goes on without it for a while; this page tries again."}
    finally:
        await client.aclose()
