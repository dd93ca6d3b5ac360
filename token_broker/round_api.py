"""The broker's API on the rounds of an order: the centre asks, the node answers."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, Query

from gdi.contracts import round_messages as m
from gdi.contracts.ids import NodeId, RunId
from token_broker.api import B, TheAirflow, TheGateway
from token_broker.order_api import MAX_WAIT, need_own

router = APIRouter(prefix="/v1")
Number = Annotated[int, Path(ge=1, le=m.LAST)]
Attempt = Annotated[int, Query(ge=1, le=10_000)]
Wait = Annotated[float, Query(ge=0, le=MAX_WAIT)]


@router.put("/runs/{run}/rounds/{node}/{number}", tags=["orders"])
async def put_question(
    b: B, airflow: TheAirflow, run: RunId, node: NodeId, number: Number, request: m.RoundQuestion
) -> m.RoundStatus:
    """The next question of an order `round`, or that there is none. The same again changes nothing; another is 409."""
    airflow.need("admit")
    return await b.rounds.ask(run, node, number, request)


@router.get("/runs/{run}/rounds/{node}/{number}", tags=["orders"])
async def get_round(
    b: B, airflow: TheAirflow, run: RunId, node: NodeId, number: Number, attempt: Attempt, wait: Wait = 0
) -> m.RoundStatus:
    """One of the last two rounds, as soon as it is answered, or after `wait` seconds."""
    airflow.need("releases")
    return await b.rounds.status(run, node, attempt, number, wait)


@router.get("/runs/{run}/rounds/{node}", tags=["orders"])
async def get_question(
    b: B,
    gateway: TheGateway,
    run: RunId,
    node: NodeId,
    attempt: Attempt,
    generation: Annotated[int, Query(ge=1)],
    after: Annotated[int, Query(ge=0, le=m.LAST)] = 0,
    wait: Wait = 0,
) -> m.RoundNews:
    """The newest question above `after`, at once or within `wait` seconds; to who has the order."""
    need_own(gateway, node)
    return await b.rounds.news(run, node, attempt, generation, after, wait)


@router.put("/runs/{run}/rounds/{node}/{number}/answer", tags=["orders"])
async def put_answer(
    b: B, gateway: TheGateway, run: RunId, node: NodeId, number: Number, request: m.RoundAnswer
) -> m.RoundStatus:
    """The node's answer. The same again changes nothing; another is 409."""
    need_own(gateway, node)
    return await b.rounds.answer(run, node, number, request)
