"""`/epochs/{dataset}` on the internal listener: the operator has the node list a dataset's persons, and opens an epoch
of them. `POST /rounds/{run}`: the node's agent has a round computed.
"""

from __future__ import annotations

from fastapi import APIRouter, Request

from gdi.contracts.gateway_api import RoundProgress, RoundTask
from gdi.contracts.ids import DatasetId, RunId
from node_gateway.context import Gateway
from node_gateway.own_tasks.persons import PersonsAnswer, PersonsWish


def internal_router(gateway: Gateway) -> APIRouter:
    routes = APIRouter()
    lists = gateway.person_lists

    @routes.post("/epochs/{dataset:path}/persons", status_code=202)
    async def begin(dataset: DatasetId) -> PersonsAnswer:
        return await lists.begin(dataset)

    @routes.get("/epochs/{dataset:path}/persons")
    async def look(dataset: DatasetId) -> PersonsAnswer:
        return await lists.look(dataset)

    @routes.post("/epochs/{dataset:path}")
    async def open_(dataset: DatasetId, wish: PersonsWish) -> PersonsAnswer:
        return await lists.open(dataset, wish)

    return routes


def router(gateway: Gateway) -> APIRouter:
    routes = APIRouter()

    @routes.post("/rounds/{run}", status_code=202)
    async def round_(http: Request, run: RunId, task: RoundTask) -> RoundProgress:
        caller = await gateway.run_caller(http, "releases", run)
        return await gateway.rounds.ask(caller, task)

    return routes
