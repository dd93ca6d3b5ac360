"""The eight operations of WES 1.1, and the text of a run's log. Success is 200, every error `{msg, status_code}`."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Annotated, Any
from urllib.parse import quote

from fastapi import APIRouter, Header, Path, Query, Request, Response
from fastapi.responses import PlainTextResponse
from fastapi.routing import APIRoute
from sqlalchemy import RowMapping

from gdi.contracts.ids import RUN_ID, matches
from gdi.contracts.portal_api import ClientKey, Consent, RunStart
from gdi.contracts.run_endings import ENDED
from gdi.kit.problem import ProblemError
from gdi.kit.version import installed
from gdi.portal.callers import D, V, Visitor
from gdi.portal.door import Door
from gdi.portal.runs import RunFilter
from gdi.portal.wes import models as w
from gdi.portal.wes.requests import WesRequest, bad, read_request
from gdi.portal.wes.states import row_state, state_of, tags_of
from gdi.portal.wes.tasks import MOST, PAGE, page_size, stamp, task, tasks
from gdi.portal.wes.workflows import TYPES, workflow_of

PREFIX = "/ga4gh/wes/v1"
ERRORS: dict[int | str, dict[str, Any]] = {
    status: {"model": w.WesErrorResponse} for status in (400, 401, 403, 404, 500, 503)
}


class WithoutNulls(APIRoute):
    """What is not known is left out: the specification's fields have no null."""

    def __init__(self, path: str, endpoint: Callable[..., Any], **options: Any) -> None:
        super().__init__(path, endpoint, **{**options, "response_model_exclude_none": True})


router = APIRouter(responses=ERRORS, route_class=WithoutNulls)
RUNS_PAGE, RUNS_MOST = 100, 1000
TASKS_INLINE = 100  # in a run's log; all of them are at task_logs_url
ENGINE = "snakemake"
RunPath = Annotated[str, Path(max_length=100)]
PageSize = Annotated[str, Query(max_length=30, description="a number; empty: the default, too large: the most")]
PageToken = Annotated[str, Query(max_length=200)]


@router.get("/service-info", tags=["Service Info"])
async def get_service_info(request: Request, d: D) -> dict[str, Any]:
    """What this service can run. With a token, how many of the caller's runs are in which state; else none are."""
    counts = dict.fromkeys(
        ("QUEUED", "INITIALIZING", "RUNNING", "COMPLETE", "EXECUTOR_ERROR", "SYSTEM_ERROR", "CANCELING", "CANCELED"), 0
    )
    authorization = request.headers.get("authorization", "")
    if authorization.lower().startswith("bearer "):
        caller = await d.broker.caller(authorization[7:].strip())
        for (standing, fault, stopped), number in (await d.runs.counts(caller)).items():
            counts[state_of(standing, fault, stopped)] += number
    versions = await asyncio.to_thread(_versions, d)
    scheme = d.settings.public_url.partition(":")[0]
    host = d.settings.public_url.partition("://")[2].partition("/")[0].partition(":")[0]
    return {
        "id": ".".join(reversed(host.split("."))) + ".wes" if not host[:1].isdigit() else "org.gdi.local.wes",
        "name": "GDI workflows",
        "type": {"group": "org.ga4gh", "artifact": "wes", "version": "1.1.0"},
        "description": "Approved workflows, run at the nodes that hold the data; only checked aggregates leave them.",
        "organization": {"name": "European Genomic Data Infrastructure", "url": "https://gdi.onemilliongenomes.eu"},
        **({"contactUrl": d.settings.operators_contact} if d.settings.operators_contact else {}),
        "documentationUrl": f"{d.settings.public_url}/docs",
        "version": installed("gdi-portal")[1],
        "workflow_type_versions": {"SMK": {"workflow_type_version": versions}},
        "supported_wes_versions": ["1.1.0"],
        "supported_filesystem_protocols": [scheme],
        "workflow_engine_versions": {ENGINE: {"workflow_engine_version": versions}},
        "default_workflow_engine_parameters": [
            {"name": "grant", "type": "string", "default_value": ""},
            {"name": "consent_days", "type": "float", "default_value": ""},
        ],
        "system_state_counts": counts,
        "auth_instructions_url": f"{d.settings.public_url}/docs",
        "tags": {"workflows": ", ".join(d.catalogue.entries())[:2000]},
    }


@router.get("/runs", tags=["Workflow Runs"])
@router.get("/runs/", include_in_schema=False)
async def list_runs(
    d: D, v: V, size: Annotated[PageSize, Query(alias="page_size")] = "", page_token: PageToken = ""
) -> w.WesRunListResponse:
    """The caller's runs, the newest first."""
    number = page_size(size, RUNS_PAGE, RUNS_MOST)
    await d.runs.sync(v.caller, v.token)
    rows, more = await d.runs.page(v.caller, RunFilter(), number, page_token)
    return w.WesRunListResponse(runs=[_summary(row) for row in rows], next_page_token=more)


@router.post(
    "/runs",
    tags=["Workflow Runs"],
    openapi_extra={
        "requestBody": {
            "content": {
                "multipart/form-data": {"schema": {"type": "object"}},
                "application/json": {"schema": {"type": "object"}},
                "application/x-www-form-urlencoded": {"schema": {"type": "object"}},
            }
        }
    },
)
@router.post("/runs/", include_in_schema=False)
async def run_workflow(
    request: Request, d: D, v: V, key: Annotated[ClientKey | None, Header(alias="Idempotency-Key")] = None
) -> w.WesRunId:
    """Starts a run. `workflow_params`: `datasets` and the workflow's own parameters."""
    d.limits.start(v.caller.sub)
    sent = await read_request(request)
    start, kept = await asyncio.to_thread(_start, d, sent)
    row, _ = await d.runs.start(v.caller, v.token, start, key=key, by="wes", wes=kept)
    return w.WesRunId(run_id=row["id"])


@router.get("/runs/{run_id}", tags=["Workflow Runs"])
async def get_run_log(d: D, v: V, run_id: RunPath) -> w.WesRunLog:
    """All that may be told of a run: its request, how it stands and why, its first tasks, and its outputs as URLs."""
    row = await _now(d, v, run_id)
    logs, _ = await tasks(d.broker, v.token, row["id"], TASKS_INLINE, "")
    here = f"{d.settings.public_url}{PREFIX}/runs/{row['id']}"
    outputs: dict[str, str] = {}
    if row["standing"] in ("succeeded", "empty"):
        results = await d.files.results(row, f"{d.settings.public_url}/v1/runs")
        outputs = {file.name: file.url for file in results.files}
        if results.crate is not None:
            outputs["crate"] = results.crate
    state = row_state(row)
    ended = row["standing"] in ENDED
    return w.WesRunLog(
        run_id=row["id"],
        request=await _request(d, row),
        state=state,
        run_log=w.WesLog(
            name=row["title"],
            start_time=stamp(row["created_at"]),
            end_time=stamp(row["ended_at"]),
            stdout=f"{here}/logs/stdout",
            stderr=f"{here}/logs/stderr",
            exit_code=(0 if state == "COMPLETE" else 1) if ended else None,
            system_logs=[s for s in (row["sentence"], row["next_step"]) if s],
        ),
        task_logs_url=f"{here}/tasks",
        task_logs=logs,
        outputs=outputs,
    )


@router.get("/runs/{run_id}/status", tags=["Workflow Runs"])
async def get_run_status(d: D, v: V, run_id: RunPath) -> w.WesRunStatus:
    row = await _now(d, v, run_id)
    return w.WesRunStatus(run_id=row["id"], state=row_state(row), tags=tags_of(row))


@router.get("/runs/{run_id}/tasks", tags=["Workflow Runs"])
async def list_tasks(
    d: D, v: V, run_id: RunPath, size: Annotated[PageSize, Query(alias="page_size")] = "", page_token: PageToken = ""
) -> w.WesTaskListResponse:
    """Its jobs at every node."""
    number = page_size(size, PAGE, MOST)
    row = await _mine(d, v, run_id)
    found, more = await tasks(d.broker, v.token, row["id"], number, page_token)
    return w.WesTaskListResponse(task_logs=found, next_page_token=more)


@router.get("/runs/{run_id}/tasks/{task_id:path}", tags=["Workflow Runs"])
async def get_task(d: D, v: V, run_id: RunPath, task_id: Annotated[str, Path(max_length=400)]) -> w.WesTaskLog:
    row = await _mine(d, v, run_id)
    return await task(d.broker, v.token, row["id"], task_id)


@router.post("/runs/{run_id}/cancel", tags=["Workflow Runs"])
async def cancel_run(d: D, v: V, run_id: RunPath) -> w.WesRunId:
    """Its tasks at the nodes are cancelled. Of a run that has ended nothing changes."""
    row = await _mine(d, v, run_id)
    await d.runs.stop(v.caller, row["id"])
    return w.WesRunId(run_id=row["id"])


@router.get("/runs/{run_id}/logs/{stream}", tags=["Workflow Runs"], response_class=PlainTextResponse)
async def get_log(d: D, v: V, run_id: RunPath, stream: Annotated[str, Path(pattern="^(stdout|stderr)$")]) -> Response:
    """What the coordinator knows of how the run went, as text: `stderr`. What jobs printed stays at the nodes."""
    row = await _now(d, v, run_id)
    lines = [row["sentence"], row["next_step"]] if stream == "stderr" else []
    return PlainTextResponse("".join(f"{line}\n" for line in lines if line))


# --- what several of them do --------------------------------------------------------------------


async def _mine(d: Door, v: Visitor, run: str) -> RowMapping:
    if not matches(RUN_ID, run):
        raise ProblemError(404, "run-unknown", f"There is no run {run[:100]!r} that you may see.", action="List yours.")
    return await d.runs.own(v.caller, v.token, run)


async def _now(d: Door, v: Visitor, run: str) -> RowMapping:
    """The run's row, as it stands now."""
    row = await _mine(d, v, run)
    if row["in_airflow"] and row["standing"] not in ENDED and await d.watch.standing(row) is not None:
        return await d.runs.of(v.caller, row["id"])
    return row


def _start(d: Door, sent: WesRequest) -> tuple[RunStart, dict[str, Any]]:
    """The start, and the request as it is shown again. ProblemError 400 for what is not supported."""
    entry = workflow_of(d.catalogue, d.settings.public_url, sent.texts["workflow_url"], sent.attachments)
    versions = _versions(d)
    kind, version = sent.texts["workflow_type"], sent.texts["workflow_type_version"]
    engine, engine_version = sent.texts["workflow_engine"], sent.texts["workflow_engine_version"]
    if kind.lower() not in TYPES:
        raise bad(f"workflow_type: {kind[:50]!r} is not run here; SMK is.")
    if version not in versions:
        raise bad(f"workflow_type_version: {version[:50]!r} is not supported; {', '.join(versions)} are.")
    if engine and engine.lower() != ENGINE:
        raise bad(f"workflow_engine: {engine[:50]!r} is not here; {ENGINE} is.")
    if engine_version and not engine:
        raise bad("workflow_engine: is needed where workflow_engine_version is given.")
    if engine_version and engine_version not in versions:
        raise bad(f"workflow_engine_version: {engine_version[:50]!r} is not here; {', '.join(versions)} are.")
    if unknown := sorted(set(sent.engine_parameters) - {"grant", "consent_days"}):
        raise bad(f"workflow_engine_parameters: {unknown[0]!r} is not known; grant and consent_days are.")
    parameters = dict(sent.params)
    datasets = parameters.pop("datasets", None)
    if not isinstance(datasets, list) or not datasets:
        raise bad("workflow_params: datasets must be a list of at least one dataset id.")
    values: dict[str, Any] = {
        "workflow": entry.workflow.name,
        "datasets": datasets,
        "parameters": parameters,
        "digest": entry.digest,
        "tags": sent.tags,
    }
    if grant := sent.engine_parameters.get("grant"):
        values["grant"] = grant
    if days := sent.engine_parameters.get("consent_days"):
        values["consent"] = _consent(days)
    kept = {
        "workflow_url": sent.texts["workflow_url"],
        "workflow_type": kind,
        "workflow_type_version": version,
        "workflow_engine": engine or ENGINE,
        "workflow_engine_version": engine_version or versions[0],
        "workflow_engine_parameters": sent.engine_parameters,
    }
    try:
        return RunStart(**values), kept
    except ValueError as error:
        fields = sorted({".".join(str(part) for part in e["loc"][:2]) for e in error.errors()})  # type: ignore[attr-defined]
        raise bad(f"The request has a wrong value in {', '.join(fields)[:300]}.") from None


def _consent(days: str) -> Consent:
    try:
        return Consent(days=float(days))
    except ValueError:
        raise bad("workflow_engine_parameters: consent_days must be a number of days up to 366.") from None


def _versions(d: Door) -> list[str]:
    """The versions of Snakemake by which the catalogue's workflows were locked, and their major number."""
    found = {e.lock.snakemake for e in d.catalogue.entries().values() if e.lock is not None}
    return [*sorted(found, reverse=True), *sorted({v.partition(".")[0] for v in found} - found, reverse=True)]


async def _request(d: Door, row: RowMapping) -> w.WesRunRequest:
    """As it was sent; of a run that another way started, as it would have been."""
    versions = await asyncio.to_thread(_versions, d) or [""]
    sent: dict[str, Any] = row["wes"] or {}
    return w.WesRunRequest(
        workflow_params={"datasets": row["datasets"], **await d.runs.parameters(row)},
        workflow_type=sent.get("workflow_type") or "SMK",
        workflow_type_version=sent.get("workflow_type_version") or versions[0],
        tags=row["tags"],
        workflow_engine_parameters=sent.get("workflow_engine_parameters") or {},
        workflow_engine=sent.get("workflow_engine") or ENGINE,
        workflow_engine_version=sent.get("workflow_engine_version") or versions[0],
        workflow_url=sent.get("workflow_url") or f"{d.settings.public_url}/v1/workflows/{quote(row['workflow'])}",
    )


def _summary(row: RowMapping) -> w.WesRunSummary:
    return w.WesRunSummary(
        run_id=row["id"],
        state=row_state(row),
        tags=tags_of(row),
        start_time=stamp(row["created_at"]),
        end_time=stamp(row["ended_at"]),
    )
