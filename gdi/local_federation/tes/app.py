"""The five calls of GA4GH TES 1.1 under /ga4gh/tes/v1; errors are problem+json."""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from typing import Annotated, Any

from fastapi import APIRouter, Body, Depends, FastAPI, Header, Query, Response
from starlette.requests import Request

from gdi.contracts.tes import FINAL, State, View
from gdi.kit import server
from gdi.kit.problem import ProblemError
from gdi.local_federation.tes.auth import TesAuthenticator, TesCaller
from gdi.local_federation.tes.database import StandInDatabase
from gdi.local_federation.tes.models import Task
from gdi.local_federation.tes.store import Filter, StandInTasks
from gdi.local_federation.tes.worker import Worker

MAX_BODY = 8 * 1024 * 1024
DEFAULT_PAGE, MAX_PAGE = 256, 2047
router = APIRouter(prefix="/ga4gh/tes/v1")
SERVICE_INFO = {
    "id": "eu.gdi.tes",
    "name": "GDI task execution service (stand-in)",
    "description": "Runs tasks in a bubblewrap sandbox without network, over this node's archive and object store.",
    "type": {"group": "org.ga4gh", "artifact": "tes", "version": "1.1.0"},
    "organization": {"name": "European Genomic Data Infrastructure", "url": "https://gdi.onemilliongenomes.eu"},
    "version": "1",
    "storage": ["s3://", "sda://", "htsget://"],
    "tesResources_backend_parameters": [],
}


class TesService:
    """What the calls work with; lives at `app.state.service`."""

    def __init__(
        self, database: StandInDatabase, worker: Worker, authenticator: TesAuthenticator, queued_tasks: int
    ) -> None:
        self.database = database
        self.worker = worker
        self.authenticator = authenticator
        self.queued_tasks = queued_tasks


def make(lifespan: Callable[[FastAPI], AbstractAsyncContextManager[None]]) -> FastAPI:
    app = FastAPI(title="GA4GH TES", version="1.1.0", lifespan=lifespan, docs_url=None, redoc_url=None)
    server.install(app, max_body=MAX_BODY)
    app.include_router(router)

    @app.get("/livez")
    async def livez() -> dict[str, str]:
        return {"status": "ok"}

    return app


def _service(request: Request) -> TesService:
    service: TesService = request.app.state.service
    return service


async def _caller(
    service: Annotated[TesService, Depends(_service)], authorization: Annotated[str | None, Header()] = None
) -> AsyncIterator[TesCaller]:
    yield await service.authenticator.caller(authorization)


Signed = Annotated[TesCaller, Depends(_caller)]
Served = Annotated[TesService, Depends(_service)]


@router.get("/service-info")
async def service_info() -> dict[str, Any]:
    """Public, as GA4GH service-info is; it names nothing of this node."""
    return SERVICE_INFO


@router.post("/tasks")
async def create_task(task: Annotated[Task, Body()], caller: Signed, service: Served) -> dict[str, str]:
    """`{"id"}`. 400-class problem naming the wrong fields; 429 where too many wait."""
    wish = task.resources
    if wish is not None and wish.backend_parameters_strict and wish.backend_parameters:
        raise ProblemError(
            400, "unsupported-parameters", "No backend parameter is known here, and the task insists on one."
        )
    task_id = await service.database.run(_create, caller, task, service.queued_tasks)
    service.worker.wake()
    return {"id": task_id}


@router.get("/tasks")
async def list_tasks(
    caller: Signed,
    service: Served,
    view: View = "MINIMAL",
    name_prefix: Annotated[str, Query(max_length=1000)] = "",
    state: State | None = None,
    tag_key: Annotated[list[str], Query(max_length=20)] = [],  # noqa: B006
    tag_value: Annotated[list[str], Query(max_length=20)] = [],  # noqa: B006
    page_size: Annotated[int, Query(ge=0, le=MAX_PAGE)] = DEFAULT_PAGE,
    page_token: Annotated[str, Query(max_length=200)] = "",
) -> Response:
    """`{"tasks", "next_page_token"?}`, newest first. A key without value, or with an empty one, matches any value of
    that tag.
    """
    if len(tag_value) > len(tag_key):
        raise ProblemError(
            400,
            "invalid-request",
            "There are more tag_value than tag_key.",
            action="Give one tag_key for each tag_value.",
        )
    tags = [(key, tag_value[i] if i < len(tag_value) else "") for i, key in enumerate(tag_key)]
    selection = Filter(caller.scope, state, name_prefix, tags, _before(page_token), page_size or DEFAULT_PAGE)
    tasks, following = await service.database.run(StandInTasks.page, view, selection)
    token = "" if following is None else f',"next_page_token":{json.dumps(_token(following))}'
    return Response(f'{{"tasks":[{",".join(tasks)}]{token}}}', media_type="application/json")


@router.get("/tasks/{task_id}")
async def get_task(task_id: str, caller: Signed, service: Served, view: View = "MINIMAL") -> Response:
    """The task; 404 where there is none that the caller may see."""
    body = await service.database.run(StandInTasks.get, task_id, view, caller.scope)
    if body is None:
        raise _unknown(task_id)
    return Response(body, media_type="application/json")


@router.post("/tasks/{task_id}:cancel")
async def cancel_task(task_id: str, caller: Signed, service: Served) -> dict[str, str]:
    """Ends a waiting task at once and a running one very soon; does nothing to one that ended."""
    state = await service.database.run(_cancel, task_id, caller.scope)
    if state is None:
        raise _unknown(task_id)
    if state == "CANCELING":
        service.worker.cancel(task_id)
    return {}


def _create(store: StandInTasks, caller: TesCaller, task: Task, most: int) -> str:
    if store.queued() >= most:
        raise ProblemError(
            429, "queue-full", f"{most} tasks wait already.", action="Submit again when some have ended."
        )
    schemes = ("sda://", "htsget://")
    needs_token = any((i.url or "").startswith(schemes) and "#" not in (i.url or "") for i in task.inputs or [])
    return store.create(caller.name, task, caller.token if needs_token else None)


def _cancel(store: StandInTasks, task_id: str, owner: str | None) -> str | None:
    state = store.state(task_id, owner)
    if state is None or state in FINAL:
        return state
    if store.move(task_id, "CANCELED", of=("QUEUED",)):
        return "CANCELED"
    store.move(task_id, "CANCELING", of=("INITIALIZING", "RUNNING"))
    return "CANCELING"


def _unknown(task_id: str) -> ProblemError:
    return ProblemError(
        404,
        "task-unknown",
        f"There is no task {task_id[:80]} that you may see.",
        action="Check the id, and who submitted it.",
    )


def _token(before: int) -> str:
    return base64.urlsafe_b64encode(str(before).encode()).decode().rstrip("=")


def _before(token: str) -> int | None:
    if not token:
        return None
    try:
        return int(base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)))
    except ValueError:
        raise ProblemError(
            400,
            "invalid-request",
            "page_token is not one that this TES gave.",
            action="Start the list anew without it.",
        ) from None
