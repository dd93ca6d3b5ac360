"""My runs: the list, one run as it goes, stop, again, its results and files."""

from __future__ import annotations

import secrets
from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Response
from sqlalchemy import RowMapping

from gdi.contracts import broker_api as m
from gdi.contracts.ids import RunId, WorkflowName
from gdi.contracts.run_endings import ENDED, STANDINGS, RunStanding
from gdi.kit.problem import ProblemError
from gdi.kit.web import segment
from gdi.portal import api
from gdi.portal.pages.visits import PAGE_HEADERS, P, PageRoute, Visit, see
from gdi.portal.runs import RunFilter

router = APIRouter(route_class=PageRoute, include_in_schema=False)
PAGE = 25
ROWS = 25  # of the answer, on the page; the file has all
MAX_JOBS = 200


@router.get("/runs")
async def runs(
    p: P,
    state: Annotated[str, Query(max_length=12)] = "",
    workflow: Annotated[WorkflowName | str, Query(max_length=63)] = "",
    page: Annotated[str, Query(max_length=200)] = "",
) -> Response:
    return await _list(p, state, workflow, page, "runs.html")


@router.get("/runs/live")
async def live_list(
    p: P,
    state: Annotated[str, Query(max_length=12)] = "",
    workflow: Annotated[WorkflowName | str, Query(max_length=63)] = "",
    page: Annotated[str, Query(max_length=200)] = "",
) -> Response:
    """The list alone, for the page's script."""
    return await _list(p, state, workflow, page, "runs_list.html")


async def _list(p: Visit, state: str, workflow: str, page: str, template: str) -> Response:
    states: tuple[RunStanding, ...] = tuple(s for s in STANDINGS if s == state)
    await p.door.runs.sync(p.who.caller, p.who.token)
    rows, more = await p.door.runs.page(p.who.caller, RunFilter(states, workflow or None), PAGE, page)
    names = {name: e.workflow.title for name, e in p.door.catalogue.entries().items()}
    live = any(row["standing"] not in ENDED for row in rows)
    return p.page(
        template,
        section="runs",
        runs=rows,
        more=more,
        state=state,
        workflow=workflow,
        at=page,
        states=STANDINGS,
        workflows=names,
        live=live,
    )


@router.get("/runs/{run}")
async def one(p: P, run: RunId) -> Response:
    return await _one(p, run, "run.html")


@router.get("/runs/{run}/live")
async def live(p: P, run: RunId) -> Response:
    """What changes while a run goes on, for the page's script."""
    return await _one(p, run, "run_live.html")


async def _one(p: Visit, run: str, template: str) -> Response:
    row = await own_run(p, run)
    entry = await api.get_run(p.door, p.who, run)
    ended = entry.state in ENDED
    results = await _results(p, run) if ended and template == "run.html" else None
    return p.page(
        template,
        section="runs",
        run=entry,
        ended=ended,
        rules=await _rules(p, run) if row["in_airflow"] else [],
        results=results,
        rows=ROWS,
        again_key=secrets.token_urlsafe(18),
        grant=row["grant_id"],
        titles=_titles(p, row["workflow"]),
    )


def _titles(p: Visit, workflow: str) -> dict[str, str]:
    """Of the parameters, as the form has them."""
    entry = p.door.catalogue.entries().get(workflow)
    return {n: str(schema.get("title") or n) for n, schema in entry.workflow.parameters.items()} if entry else {}


async def _rules(p: Visit, run: str) -> list[m.RuleProgress]:
    try:
        return (await p.door.broker.progress(p.who.token, run)).rules
    except ProblemError:
        return []  # not admitted (yet), or the broker is away: the sentence on top says so


async def _results(p: Visit, run: str) -> Any:
    try:
        return await p.door.files.results(await own_run(p, run), "/runs")
    except ProblemError as error:
        return error.problem


async def own_run(p: Visit, run: str) -> RowMapping:
    """The person's run. ProblemError 404."""
    return await p.door.runs.own(p.who.caller, p.who.token, run)


@router.get("/runs/{run}/jobs")
async def jobs(p: P, run: RunId, after: Annotated[int, Query(ge=0, le=2**53)] = 0) -> Response:
    found = await api.list_jobs(p.door, p.who, run, after, MAX_JOBS)
    row = await own_run(p, run)
    return p.page("jobs.html", section="runs", run=row, found=found)


@router.get("/runs/{run}/stop")
async def ask_stop(p: P, run: RunId) -> Response:
    return p.page("stop.html", section="runs", run=await own_run(p, run))


@router.post("/runs/{run}/stop")
async def stop(p: P, run: RunId) -> Response:
    await api.cancel_run(p.door, p.who, run)
    return see(f"/runs/{run}")


@router.post("/runs/{run}/again")
async def again(p: P, run: RunId, response: Response) -> Response:
    """A new run of the same; where the consent has ended, the way to give it again."""
    try:
        started = await api.run_again(p.door, p.who, run, response, p.first("key")[:200] or None)
    except ProblemError as error:
        if error.slug != "consent-needed":
            raise
        row = await own_run(p, run)
        return see(f"/workflows/{row['workflow']}?" + "&".join(f"dataset={segment(d)}" for d in row["datasets"][:50]))
    return see(f"/runs/{started.id}")


@router.get("/runs/{run}/files/{name:path}")
async def file(p: P, run: RunId, name: Annotated[str, Path(max_length=200)]) -> Response:
    """Pictures are shown; everything else is only ever saved, whatever it says it is."""
    answer = await api.get_file(p.door, p.who, run, name)
    picture = name.endswith(".png")
    if picture:
        answer.headers["content-type"] = "image/png"
        answer.headers["content-disposition"] = "inline"
    elif not answer.headers.get("content-disposition", "").startswith("attachment"):
        answer.headers["content-disposition"] = "attachment"
    return _guarded(answer)


@router.get("/runs/{run}/crate")
async def crate(p: P, run: RunId) -> Response:
    answer = await api.get_crate(p.door, p.who, run)
    if not answer.headers.get("content-disposition", "").startswith("attachment"):
        answer.headers["content-disposition"] = f'attachment; filename="{run}.zip"'
    return _guarded(answer)


def _guarded(answer: Response) -> Response:
    """A file may be a node's: nothing in it runs here."""
    answer.headers["content-security-policy"] = "default-src 'none'; sandbox; frame-ancestors 'none'"
    answer.headers["cache-control"] = PAGE_HEADERS["Cache-Control"]
    return answer
