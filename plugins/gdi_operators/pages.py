"""The run's tabs in Airflow's UI, Jobs and Results: one small page, its script, the data behind them. Airflow's own
authorization guards all of it.
"""

from __future__ import annotations

import html

from airflow.api_fastapi.auth.managers.models.resource_details import DagAccessEntity
from airflow.api_fastapi.core_api.security import GetUserDep, get_user, requires_access_dag
from fastapi import Depends, FastAPI, Request
from fastapi.responses import JSONResponse, Response

from gdi_operators import ui
from gdi_operators.home import router as home
from gdi_operators.jobs.api import router as jobs
from gdi_operators.node_pages import router as nodes
from gdi_operators.results.api import router as results
from gdi_operators.standing import router as standing

# No script but ours, none made from text (Trusted Types), nothing fetched from elsewhere, and nobody else's page around
# it.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self';"
    " base-uri 'none'; form-action 'none'; frame-ancestors 'self'; require-trusted-types-for 'script';"
    " trusted-types 'none'"
)
HEADERS = {"Content-Security-Policy": POLICY, "X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer"}
PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<link rel="stylesheet" href="{base}/assets/{version}/gdi.css">
<script type="module" src="{base}/assets/{version}/gdi.js"></script>
</head>
<body><div id="root"></div></body>
</html>
"""
TITLES = {"jobs": "The run's jobs", "results": "The run's results"}
may_see_run = Depends(requires_access_dag(method="GET", access_entity=DagAccessEntity.RUN))


def create_app() -> FastAPI:
    """Mounted at /gdi of the api-server: `jobs/{dag}/{run}`, `results/{dag}/{run}`, what they read below `data/`,
    `file/` and `crate/`, `nodes`, `data/home`, and `assets/`.
    """
    app = FastAPI(title="GDI run pages", docs_url=None, redoc_url=None, openapi_url=None)

    @app.middleware("http")
    async def guarded(request: Request, call_next):  # type: ignore[no-untyped-def]
        answer = await call_next(request)
        for name, value in HEADERS.items():
            answer.headers[name] = value
        answer.headers.setdefault("Cache-Control", "no-store")
        return answer

    @app.get("/assets/{version}/{name}")
    async def asset(version: str, name: str, user: GetUserDep) -> Response:
        if name not in ui.ASSETS:
            return JSONResponse({"detail": "There is no such file."}, status_code=404)
        kept = {"Cache-Control": "private, max-age=31536000, immutable"} if version == ui.version() else {}
        return Response((ui.DIST / name).read_bytes(), media_type=ui.ASSETS[name], headers=kept)

    def page(name: str) -> None:
        @app.get(f"/{name}/{{dag_id}}/{{dag_run_id:path}}", dependencies=[may_see_run])
        async def shown(request: Request, dag_id: str, dag_run_id: str) -> Response:
            base = html.escape(str(request.scope.get("root_path", "")), quote=True)
            return Response(PAGE.format(title=TITLES[name], base=base, version=ui.version()), media_type="text/html")

    for name in TITLES:
        page(name)
    app.include_router(home, dependencies=[Depends(get_user)])
    app.include_router(nodes, dependencies=[Depends(get_user)])
    app.include_router(jobs, dependencies=[may_see_run])
    app.include_router(results, dependencies=[may_see_run])
    app.include_router(standing, dependencies=[may_see_run])
    return app
