"""`POST /v1/runs/{run}/tokens` and `…/events`, as the broker has them, for pods that this node started itself."""

from __future__ import annotations

from fastapi import APIRouter, Request
from starlette.responses import Response

from gdi.contracts.events import EventBatch
from gdi.contracts.ids import RunId
from gdi.contracts.tokens import Token, TokenRequest
from node_gateway.context import Gateway


def router(gateway: Gateway) -> APIRouter:
    routes = APIRouter(prefix="/v1/runs")

    @routes.post("/{run}/tokens")
    async def tokens(http: Request, run: RunId, request: TokenRequest) -> Token:
        return await gateway.workloads.token(http, run, request)

    @routes.post("/{run}/events", status_code=204)
    async def events(http: Request, run: RunId, batch: EventBatch) -> Response:
        await gateway.workloads.events(http, run, batch)
        return Response(status_code=204)

    return routes
