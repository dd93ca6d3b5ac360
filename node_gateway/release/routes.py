"""`POST /releases/{run}`, `GET /releases/{run}/{name}` (scope `releases`); the reviewer's page of work on the internal listener."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Path
from fastapi import Request as HttpRequest
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import JSONResponse, Response

from gdi_common.problem import ProblemError
from node_gateway.context import Gateway
from node_gateway.release.service import JSON, Request

RunPath = Annotated[str, Path(max_length=100)]
NamePath = Annotated[str, Path(pattern=r"^[a-z][a-z0-9-]{0,62}$")]


def router(gateway: Gateway) -> APIRouter:
    routes = APIRouter()

    @routes.post("/releases/{run}")
    async def ask(http: HttpRequest, run: RunPath, request: Request) -> JSONResponse:
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
    async def published(http: HttpRequest, run: RunPath, name: NamePath) -> Response:
        caller = await gateway.auth.caller(http, "releases")
        try:
            gateway.own_run(caller, run)
        except ProblemError as error:
            await gateway.auth.refuse(f"GET /releases/{run}/{name}", error, caller)
            raise
        return Response(await gateway.releases.open(run, name), media_type=JSON)

    return routes


class Decision(BaseModel):
    """A reviewer's decision on the bytes with this SHA-256."""

    model_config = ConfigDict(extra="forbid")
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    reviewer: Annotated[str, Field(min_length=1, max_length=200)]
    approve: bool


def review_router(gateway: Gateway) -> APIRouter:
    routes = APIRouter()

    @routes.get("/review")
    async def waiting() -> dict[str, Any]:
        return {"waiting": await gateway.releases.waiting()}

    @routes.post("/review/{run}/{name}", status_code=204)
    async def decide(run: RunPath, name: NamePath, decision: Decision) -> Response:
        await gateway.releases.review(run, name, decision.sha256, reviewer=decision.reviewer, approve=decision.approve)
        return Response(status_code=204)

    return routes
