"""`GET /logs/{task}`: what a task printed, where the node's policy lets it be read (`logs: open`, for open data);
otherwise nobody's.
"""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path
from starlette.responses import PlainTextResponse

from gdi.kit.problem import ProblemError
from node_gateway.context import Gateway
from node_gateway.tasks.answer import printed
from node_gateway.tasks.tes_client import TesAway


def router(gateway: Gateway) -> APIRouter:
    routes = APIRouter()

    @routes.get("/logs/{task}")
    async def logs(task: Annotated[str, Path(max_length=200)]) -> PlainTextResponse:
        if gateway.policy.current().logs != "open":
            raise ProblemError(
                403, "logs-closed", "This node lets nobody read what tasks print.", action="Ask the node's operator."
            )
        known = await gateway.tasks.store.by_tes_id(task)
        try:
            found = await gateway.tasks.tes.get(task, "FULL") if known else None
        except TesAway as away:
            raise away.problem() from None
        if found is None:
            raise ProblemError(404, "unknown-task", "There is no such task.", action="Check the link.")
        return PlainTextResponse(printed(found) or "The task printed nothing (yet).\n")

    return routes
