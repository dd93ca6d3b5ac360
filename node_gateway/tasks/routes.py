"""`/ga4gh/tes/v1/…` under a run token with the scope `tasks`, and the end of a run's attempt (scope `close`)."""

from __future__ import annotations

import asyncio
import json
from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from pydantic import ValidationError

from gdi.contracts.gateway_api import CloseAttempt, Closed
from gdi.contracts.ids import RunId
from gdi.contracts.tes import View, to_json
from gdi.kit.problem import ProblemError
from gdi.kit.version import installed
from node_gateway.auth import Caller
from node_gateway.context import Gateway
from node_gateway.tasks.models import TaskBody
from node_gateway.tasks.off_loop import SMALL, off_loop
from node_gateway.tasks.service import ForeignTask
from node_gateway.tasks.tes_client import API, TaskSelection, TesAway

TaskId = Annotated[str, Path(max_length=200)]
BODY = {"content": {"application/json": {"schema": TaskBody.model_json_schema()}}, "required": True}


def router(gateway: Gateway) -> APIRouter:
    routes = APIRouter()
    tasks = gateway.tasks

    async def refuse(request: Request, error: ProblemError, caller: Caller, task: str = "") -> None:
        dataset = str((error.problem.model_extra or {}).get("dataset", ""))
        await gateway.auth.refuse(f"{request.method} {request.url.path}", error, caller, dataset=dataset, task=task)

    @routes.get(API + "/service-info")
    async def service_info() -> dict[str, Any]:
        kind = {"group": "org.ga4gh", "artifact": "tes", "version": "1.1.0"}
        organization = {"name": gateway.settings.node_id, "url": gateway.settings.public_url}
        who = {
            "id": f"gdi.{gateway.settings.node_id}",
            "name": f"GDI node {gateway.settings.node_id}",
            "organization": organization,
        }
        more = [name for name, there in (("htsget://", gateway.htsget), ("drs://", gateway.drs.names)) if there]
        storage = ["workspace://", "sda://", *more]
        return {**who, "type": kind, "version": installed("gdi-node-gateway")[1], "storage": storage}

    async def sent(request: Request) -> tuple[TaskBody, int]:
        """The task and its bytes, which are counted before they are read as JSON, and read off the event loop."""
        most = gateway.policy.current().max_task_bytes
        raw = await request.body()
        if len(raw) > most:
            raise ProblemError(
                413,
                "too-large",
                f"The task has {len(raw)} bytes; this node allows {most}.",
                action="Send large files as the workflow's sources, and shorten the command.",
            )
        try:
            return await off_loop(len(raw), lambda: TaskBody.model_validate_json(raw)), len(raw)
        except ValidationError as error:
            found = error.errors(include_url=False, include_context=False, include_input=False)
            raise RequestValidationError([{**one, "loc": ("body", *one["loc"])} for one in found]) from None

    @routes.post(API + "/tasks", openapi_extra={"requestBody": BODY})
    async def create(request: Request) -> dict[str, str]:
        caller = await gateway.auth.caller(request, "tasks")
        body, size = await sent(request)
        try:
            return {"id": await tasks.create(body.task(), caller, size)}
        except TesAway as away:
            raise away.problem() from None
        except ProblemError as error:
            if error.problem.status == 403:
                await refuse(request, error, caller)
            raise

    @routes.get(API + "/tasks")
    async def listing(
        request: Request,
        view: View = "MINIMAL",
        page_size: Annotated[int, Query(ge=1, le=2047)] = 256,
        page_token: Annotated[str, Query(max_length=2000)] = "",
        state: Annotated[str, Query(pattern=r"^[A-Z_]{0,20}$")] = "",
        name_prefix: Annotated[str, Query(max_length=1000)] = "",
        tag_key: Annotated[list[str], Query(max_length=20)] = [],  # noqa: B006
        tag_value: Annotated[list[str], Query(max_length=20)] = [],  # noqa: B006
    ) -> Response:
        caller = await gateway.auth.caller(request, "tasks")
        values = [*tag_value, *[""] * (len(tag_key) - len(tag_value))]
        tags = dict(zip(tag_key, values, strict=False))
        try:
            chosen = TaskSelection(tags, state, name_prefix)
            found, following = await tasks.page(caller, chosen, view=view, size=page_size, token=page_token)
            page = {"tasks": found} | ({"next_page_token": following} if following else {})
            text = await off_loop(0 if view == "MINIMAL" else SMALL, lambda: json.dumps(page))
            return Response(text, media_type="application/json")
        except TesAway as away:
            raise away.problem() from None

    @routes.get(API + "/tasks/{task}")
    async def get(request: Request, task: TaskId, view: View = "MINIMAL") -> Response:
        caller = await gateway.auth.caller(request, "tasks")
        try:
            found = await tasks.get(task, view, caller)
            text = await asyncio.to_thread(lambda: json.dumps(to_json(found)))
            return Response(text, media_type="application/json")
        except TesAway as away:
            raise away.problem() from None
        except ForeignTask as error:
            await refuse(request, error, caller, task)
            raise

    @routes.post(API + "/tasks/{task}:cancel")
    async def cancel(request: Request, task: TaskId) -> dict[str, str]:
        caller = await gateway.auth.caller(request, "tasks")
        try:
            await tasks.cancel(task, caller)
        except TesAway as away:
            raise away.problem() from None
        except ForeignTask as error:
            await refuse(request, error, caller, task)
            raise
        return {}

    @routes.post("/runs/{run}/close")
    async def close(request: Request, run: RunId, body: CloseAttempt) -> Closed:
        caller = await gateway.auth.caller(request, "close")
        try:
            gateway.own_run(caller, run)
            if body.attempt > caller.attempt:
                raise ProblemError(
                    403,
                    "unknown-attempt",
                    f"The run token is for attempt {caller.attempt}.",
                    action="Close that attempt.",
                )
        except ProblemError as error:
            await refuse(request, error, caller)
            raise
        try:
            return Closed(run=run, attempt=body.attempt, cancelled=await tasks.close(caller, body.attempt))
        except TesAway as away:
            raise away.problem() from None

    return routes
