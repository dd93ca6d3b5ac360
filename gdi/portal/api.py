"""The API for people and portals, version 1. Paths begin with /v1; each call is the token's owner's own."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

from fastapi import APIRouter, Header, Path, Query, Response
from starlette.responses import StreamingResponse

from gdi.contracts import broker_api as m
from gdi.contracts import portal_api as p
from gdi.contracts.ids import DatasetId, GrantId, RunId, WorkflowName
from gdi.contracts.notices import NoticeChoice, NoticeSettings
from gdi.contracts.run_endings import ENDED, STANDINGS, RunStanding
from gdi.kit.problem import ProblemError
from gdi.oauth.client import SCOPE
from gdi.portal.callers import D, V
from gdi.portal.catalogue import described
from gdi.portal.door import Door
from gdi.portal.entries import entry_of, links_of, summary_of
from gdi.portal.openapi import answers
from gdi.portal.preflight import checked
from gdi.portal.runs import RunFilter

router = APIRouter(prefix="/v1")
REPEATED: dict[int | str, dict[str, Any]] = {
    200: {"model": p.RunStarted, "description": "It was started before, with this Idempotency-Key."}
}
Key = Annotated[
    p.ClientKey | None,
    Header(alias="Idempotency-Key", description="Your own name for this start: sent again, it starts nothing twice."),
]
Time = Annotated[float | None, Query(ge=0, le=1e12, allow_inf_nan=False)]


# --- what there is ------------------------------------------------------------------------------


@router.get("/me", tags=["users"], responses=answers())
async def me(v: V) -> p.TokenOwner:
    """Whose token this is."""
    return v.caller


@router.get("/sign-in", tags=["users"])
async def sign_in(d: D) -> p.SignInHint:
    """How a program in a terminal signs its user in. For everybody: no token is needed."""
    s = d.settings
    if s.oidc_issuer is None or s.device_client_id is None:
        return p.SignInHint()
    return p.SignInHint(issuer=s.oidc_issuer, client_id=s.device_client_id, scope=SCOPE)


@router.get("/workflows", tags=["workflows"])
async def list_workflows(d: D) -> p.WorkflowList:
    """The catalogue. For everybody: no token is needed."""
    return await asyncio.to_thread(d.catalogue.list)


@router.get("/workflows/{name}", tags=["workflows"], responses=answers(404))
async def get_workflow(d: D, name: WorkflowName) -> p.CatalogueWorkflow:
    """One workflow, with the JSON Schema of its parameters."""
    return described(await asyncio.to_thread(d.catalogue.entry, name))


@router.get("/datasets", tags=["datasets"], responses=answers())
async def list_datasets(d: D, v: V) -> p.DatasetList:
    """Datasets of the federation, what you may use now and until when, and where to apply."""
    return await d.broker.datasets(v.token)


@router.get("/nodes", tags=["nodes"], responses=answers())
async def list_nodes(d: D, v: V) -> p.NodeList:
    """The nodes, and whether each answers."""
    return await d.nodes.list((await d.broker.nodes(v.token)).nodes)


@router.post("/preflight", tags=["runs"], responses=answers(404, 422))
async def preflight(d: D, v: V, request: p.StartCheck) -> p.StartChecked:
    """What would come of a start, by node. Nothing starts; answers within 10 s."""
    return await checked(d, v.token, request)


# --- consent ------------------------------------------------------------------------------------


@router.get("/grants", tags=["grants"], responses=answers())
async def list_grants(d: D, v: V) -> p.GrantList:
    return p.GrantList(grants=await d.broker.grants(v.token))


@router.post("/grants", status_code=201, tags=["grants"], responses=answers(403, 404, 422))
async def create_grant(d: D, v: V, request: m.GrantRequest) -> m.Grant:
    """Your consent that these workflows read these datasets on your behalf, until then; once, or standing, or on a
    schedule.
    """
    return await d.consents.create(v.token, request)


@router.get("/grants/{grant}", tags=["grants"], responses=answers(403, 404))
async def get_grant(d: D, v: V, grant: GrantId) -> m.Grant:
    return await d.broker.grant(v.token, grant)


@router.delete("/grants/{grant}", tags=["grants"], responses=answers(403, 404))
async def revoke_grant(d: D, v: V, grant: GrantId) -> m.Grant:
    """Runs under it lose their access at once."""
    return await d.broker.revoke_grant(v.token, grant)


@router.get("/notices", tags=["notices"], responses=answers())
async def read_notices(d: D, v: V) -> NoticeSettings:
    """Of what you are told, by mail or by a webhook of yours."""
    return await d.broker.notices(v.token)


@router.put("/notices", tags=["notices"], responses=answers(422))
async def choose_notices(d: D, v: V, choice: NoticeChoice) -> NoticeSettings:
    """Replaces the choice. `secret` verifies a new webhook's calls (standard-webhooks) and is told this once."""
    return await d.broker.choose_notices(v.token, choice)


# --- runs ---------------------------------------------------------------------------------------


@router.post("/runs", status_code=201, tags=["runs"], responses=answers(403, 404, 409, 422) | REPEATED)
async def start_run(d: D, v: V, request: p.RunStart, response: Response, key: Key = None) -> p.RunStarted:
    """Starts a run. Send it again with the same Idempotency-Key when you had no answer: it is one run."""
    d.limits.start(v.caller.sub)
    row, repeated = await d.runs.start(v.caller, v.token, request, key=key)
    return _started(d, row, repeated, response)


@router.get("/runs", tags=["runs"], responses=answers(422))
async def list_runs(
    d: D,
    v: V,
    state: Annotated[list[RunStanding] | None, Query(max_length=len(STANDINGS))] = None,
    workflow: Annotated[WorkflowName | None, Query()] = None,
    dataset: Annotated[DatasetId | None, Query()] = None,
    tag: Annotated[
        list[Annotated[str, Query(max_length=400)]] | None, Query(max_length=10, description="NAME:VALUE")
    ] = None,
    created_after: Time = None,
    created_before: Time = None,
    page_size: Annotated[int, Query(ge=1, le=p.MAX_PAGE)] = 50,
    page_token: Annotated[str, Query(max_length=200)] = "",
) -> p.RunPage:
    """Your runs, the newest first, whoever started them for you: this API, WES, a schedule, Airflow."""
    await d.runs.sync(v.caller, v.token)
    wanted = RunFilter(
        tuple(state or ()), workflow, dataset, dict(_tag(t) for t in tag or ()), created_after, created_before
    )
    rows, more = await d.runs.page(v.caller, wanted, page_size, page_token)
    return p.RunPage(runs=[summary_of(row) for row in rows], next_page_token=more)


@router.get("/runs/{run}", tags=["runs"], responses=answers(404))
async def get_run(d: D, v: V, run: RunId) -> p.RunEntry:
    """One run, as it stands now."""
    row = await d.runs.own(v.caller, v.token, run)
    standing = await d.watch.standing(row) if row["in_airflow"] else None
    return entry_of(row, standing, await d.runs.parameters(row), d.settings.airflow_public_url)


@router.post("/runs/{run}/cancel", tags=["runs"], responses=answers(404))
async def cancel_run(d: D, v: V, run: RunId) -> p.RunSummary:
    """Stops it: its tasks at the nodes are cancelled. Of a run that has ended nothing changes, and that is no error."""
    await d.runs.sync(v.caller, v.token)
    return summary_of(await d.runs.stop(v.caller, run))


@router.post("/runs/{run}/again", status_code=201, tags=["runs"], responses=answers(403, 404, 409, 422) | REPEATED)
async def run_again(d: D, v: V, run: RunId, response: Response, key: Key = None) -> p.RunStarted:
    """A new run with the same datasets and parameters, in the workflow's version of now."""
    d.limits.start(v.caller.sub)
    row, repeated = await d.runs.again(v.caller, v.token, run, key)
    return _started(d, row, repeated, response)


@router.get("/runs/{run}/jobs", tags=["runs"], responses=answers(404))
async def list_jobs(
    d: D,
    v: V,
    run: RunId,
    after: Annotated[int, Query(ge=0, le=2**53)] = 0,
    limit: Annotated[int, Query(ge=1, le=2000)] = 500,
) -> p.RunJobs:
    """Its jobs at every node, with news since `after`. Without news nodes and rules are empty: they are as before."""
    row = await d.runs.own(v.caller, v.token, run)
    try:
        page = await d.broker.jobs(v.token, run, after, limit)
        news = after == 0 or bool(page.jobs)
        progress = await d.broker.progress(v.token, run) if news else None
    except ProblemError as error:
        if error.problem.status != 404:
            raise
        return p.RunJobs(run=run, attempt=1, state=row["standing"], sentence=row["sentence"])
    return p.RunJobs(
        run=run,
        attempt=page.attempt,
        state=row["standing"],
        sentence=row["sentence"],
        nodes=progress.nodes if progress else [],
        rules=progress.rules if progress else [],
        jobs=page.jobs,
        next_after=page.next_after,
        more=page.more,
    )


@router.get("/runs/{run}/results", tags=["results"], responses=answers(404))
async def get_results(d: D, v: V, run: RunId) -> p.RunResults:
    """The answer, what each node released and withheld, and the files, each with its URL here."""
    row = await d.runs.own(v.caller, v.token, run)
    if row["in_airflow"] and row["standing"] not in ENDED:
        await d.watch.standing(row)
        row = await d.runs.of(v.caller, run)
    return await d.files.results(row)


@router.get("/runs/{run}/files/{name:path}", tags=["results"], responses=answers(404), response_class=Response)
async def get_file(d: D, v: V, run: RunId, name: Annotated[str, Path(max_length=200)]) -> StreamingResponse:
    """One file of the results."""
    return await d.files.stream(await d.runs.own(v.caller, v.token, run), "file", name)


@router.get("/runs/{run}/crate", tags=["results"], responses=answers(404), response_class=Response)
async def get_crate(d: D, v: V, run: RunId) -> StreamingResponse:
    """Everything as an RO-Crate (Workflow Run Crate 0.5), zipped."""
    return await d.files.stream(await d.runs.own(v.caller, v.token, run), "crate")


# --- what several of them do --------------------------------------------------------------------


def _started(d: Door, row: Any, repeated: bool, response: Response) -> p.RunStarted:
    response.headers["Location"] = f"/v1/runs/{row['id']}"
    if repeated:
        response.status_code = 200
    return p.RunStarted(
        id=row["id"],
        state=row["standing"],
        sentence=row["sentence"],
        grant=row["grant_id"],
        repeated=repeated,
        links=links_of(row, d.settings.airflow_public_url),
    )


def _tag(text: str) -> tuple[str, str]:
    name, found, value = text.partition(":")
    if not found or not name:
        raise ProblemError(422, "invalid-request", "tag: write NAME:VALUE.", action="Correct it and send it again.")
    return name, value
