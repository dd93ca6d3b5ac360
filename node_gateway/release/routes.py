"""`POST /releases/{run}`, `GET /releases/{run}/{name}` (scope `releases`), and waiting for a review."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from fastapi import APIRouter, Query
from fastapi import Request as HttpRequest
from starlette.responses import JSONResponse, Response

from gdi.contracts.cohorts import AdmissionAnswer, AdmissionIntent
from gdi.contracts.gateway_api import ReleaseRequest, Review
from gdi.contracts.ids import ReleaseName, RunId
from gdi.kit.problem import ProblemError
from gdi.kit.web import accepts
from node_gateway.context import Gateway
from node_gateway.file_answer import file_answer
from node_gateway.release import question


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
        if status == 202:
            case = await gateway.reviews.case(run, request.name)
            await gateway.recounts.begin(caller, case)
        return JSONResponse(answer, status_code=status)

    @routes.post("/runs/{run}/admission")
    async def admit(http: HttpRequest, run: RunId, intent: AdmissionIntent) -> AdmissionAnswer:
        """Whether the run may ask this of the node: before anything runs, the same words for everybody."""
        caller = await gateway.run_caller(http, "releases", run)
        wanted = question.of_caller(caller, *intent.kinds, cohort=intent.cohort)
        try:
            async with gateway.database.read() as connection:
                await question.admit(gateway.policy, connection, wanted)
        except ProblemError as error:
            await gateway.auth.refuse(f"POST /runs/{run}/admission", error, caller)
            raise
        return AdmissionAnswer()

    @routes.get("/releases/{run}/{name}")
    async def published(http: HttpRequest, run: RunId, name: ReleaseName) -> Response:
        """The published bytes, as their kind's media type. 406 where `Accept` leaves that out (RFC 9110 §12.5.1)."""
        await gateway.run_caller(http, "releases", run)

        async def write(file: Path) -> str:
            media_type = await gateway.releases.open(run, name, file)
            if not accepts(http.headers.get("accept", ""), media_type):
                raise ProblemError(
                    406,
                    "not-acceptable",
                    f"The release {name} is {media_type}, which the request's Accept leaves out.",
                    action=f"Accept {media_type}, or leave out the header.",
                )
            return media_type

        return await file_answer(write)

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
