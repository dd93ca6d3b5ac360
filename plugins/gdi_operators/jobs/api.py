"""`GET data/jobs/{dag}/{run}?after=`: the run's progress and the jobs of which there is news. What nodes said is passed
on as it is: as text.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any

import httpx
from airflow.models.dagrun import DagRun
from airflow.utils.session import create_session
from fastapi import APIRouter, Query
from fastapi.responses import JSONResponse, Response
from sqlalchemy import select

from gdi.broker_client.client import AsyncBrokerClient
from gdi.contracts.ids import make_run_id
from gdi.kit.problem import ProblemError
from gdi.kit.settings import SettingsError
from gdi_operators.hooks.token_broker import BrokerAccess, TokenBrokerHook

router = APIRouter()
FIRST, PAGE = 400, 2000  # jobs in an answer: few at first, so that something is there to see
NOTHING: dict[str, Any] = {
    "progress": {"state": "not-admitted", "outcome": "", "attempt": 0, "failing": None, "nodes": [], "rules": []},
    "page": {"next_after": 0},
    "logs": {},
}


class Unavailable(Exception):
    """The broker cannot be asked now; the message is for the person who looks."""


_known: dict[tuple[asyncio.AbstractEventLoop, BrokerAccess], AsyncBrokerClient] = {}


async def _client() -> AsyncBrokerClient:
    """One for the life of the api-server's loop: a page asks every few seconds, and a client costs more than a
    request.
    """
    hook = TokenBrokerHook()
    key = (asyncio.get_running_loop(), await hook.aaccess())
    if key not in _known:
        _known[key] = await hook.aget_conn()
    return _known[key]


@asynccontextmanager
async def asking() -> AsyncIterator[AsyncBrokerClient]:
    """The broker's client. What goes wrong with it leaves as Unavailable; a run that the broker does not know as
    ProblemError 404.
    """
    try:
        yield await _client()
    except SettingsError as error:
        raise Unavailable(str(error)) from None
    except ProblemError as error:
        if error.problem.status == 404:
            raise
        raise Unavailable(f"The broker answered: {error}") from None
    except (httpx.HTTPError, FileNotFoundError) as error:
        raise Unavailable(
            f"The broker does not answer ({type(error).__name__}). The run goes on without it for a while; this page"
            " tries again."
        ) from None


async def _nothing() -> None:
    return None


@router.get("/data/jobs/{dag_id}/{dag_run_id:path}")
async def read_jobs(dag_id: str, dag_run_id: str, after: Annotated[int, Query(ge=0, le=2**53)] = 0) -> Response:
    """`{progress, page: {jobs, next_after, more}, logs}` (`logs`: `{node: gateway}`, at the first read); 503 with a
    sentence where the broker is away.
    """
    run = make_run_id(dag_id, dag_run_id)
    try:
        async with asking() as broker:
            first = after == 0
            calls = (broker.progress(run), broker.jobs(run, after=after, limit=FIRST if first else PAGE))
            progress, page, known = await asyncio.gather(*calls, broker.get_run(run) if first else _nothing())
    except ProblemError:
        state = await asyncio.to_thread(in_airflow, dag_id, dag_run_id)
        return JSONResponse({**NOTHING, "progress": {**NOTHING["progress"], **state}})
    except Unavailable as error:
        return JSONResponse({"detail": str(error)}, status_code=503)
    if (
        page.attempt != progress.attempt
    ):  # the next attempt opened between the two answers: its jobs come with the next read
        page = page.model_copy(update={"jobs": [], "next_after": after, "more": False})
    logs = json.dumps({item.node: item.gateway_url for item in known.plan} if known else {})
    body = (
        f'{{"progress": {progress.model_dump_json()}, "page": {page.model_dump_json(exclude_defaults=True)}, "logs":'
        f" {logs}}}"
    )
    return Response(body, media_type="application/json")


def in_airflow(dag_id: str, dag_run_id: str) -> dict[str, Any]:
    """What Airflow says of a DAG run that the broker does not know, it waits or it was refused: `{airflow}`, and
    `{waits_until}` (epoch) where its logical date lies in the future: Airflow starts no task before, and says nothing.
    """
    columns = select(DagRun.state, DagRun.logical_date)
    with create_session() as session:
        row = session.execute(columns.where(DagRun.dag_id == dag_id, DagRun.run_id == dag_run_id)).first()
    if row is None:
        return {"airflow": None}
    begins = 0.0 if row.logical_date is None else row.logical_date.timestamp()
    return {"airflow": str(row.state)} | ({"waits_until": begins} if begins > time.time() else {})
