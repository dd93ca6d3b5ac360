"""`POST /releases/{run}`, `GET /releases/{run}/{name}` (scope `releases`), and waiting for a review."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query
from fastapi import Request as HttpRequest
from starlette.responses import JSONResponse, Response

from gdi.contracts.gateway_api import ReleaseRequest, Review
from gdi.contracts.ids import ReleaseName, RunId
from gdi.kit.problem import ProblemError
from node_gateway.context import Gateway
from node_gateway.release.service import JSON


def router(gateway: Gateway) -> APIRouter:
    routes = APIRouter()

    @routes.post("/releases/{run}")
    async def ask(http: HttpRequest, run: RunId, request: ReleaseRequest) -> JSONResponse:
        caller = await gateway.auth.caller(http, "releases")
        try:
            gateway.own_run(caller, run)
            status, answer = await gateway.releases.ask(request, caller)
        except ProblemError as error:
            if error.problem.status in (403, 422):
                await gateway.auth.refuse(f"POST /releases/{run} {request.name}", error, caller)
            raise
        return JSONResponse(answer, status_code=status)

    @routes.get("/releases/{run}/{name}")
    async def published(http: HttpRequest, run: RunId, name: ReleaseName) -> Response:
        await gateway.run_caller(http, "releases", run)
        return Response(await gateway.releases.open(run, name), media_type=JSON)

    @routes.get("/releases/{run}/{name}/review")
    async def review(
        http: HttpRequest, run: RunId, name: ReleaseName, wait: Annotated[float, Query(ge=0, le=15)] = 0
    ) -> Review:
        """`{"state": "awaiting-review" | "published" | "refused" | "unknown"}`; while it waits, answered after a
        decision or `wait` seconds.
        """
        await gateway.run_caller(http, "releases", run)
        return Review(state=await gateway.reviews.state(run, name, wait))

    return routes
