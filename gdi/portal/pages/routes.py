"""The pages around the runs: welcome, signing in and out, home, datasets, language."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, FastAPI, Query, Request, Response
from fastapi.responses import RedirectResponse

from gdi.contracts.ids import MAX_DATASET_ID
from gdi.kit.problem import ProblemError
from gdi.portal import api
from gdi.portal.callers import D
from gdi.portal.pages import committee_pages, consent_pages, notice_pages, run_pages, start_pages
from gdi.portal.pages.assets import asset
from gdi.portal.pages.sign_in import PortalSignIn
from gdi.portal.pages.visits import BACK, LANGUAGE, P, PageRoute, S, Visit, public_page, see, visit, welcome
from gdi.portal.runs import RunFilter

Text = Annotated[str, Query(max_length=4000)]
router = APIRouter(route_class=PageRoute, include_in_schema=False)


def install(app: FastAPI, sign_in: PortalSignIn) -> None:
    """Adds the pages to the application, which has `state.door`."""
    app.state.sign_in = sign_in
    for part in (
        router,
        start_pages.router,
        run_pages.router,
        consent_pages.router,
        notice_pages.router,
        committee_pages.router,
    ):
        app.include_router(part)


@router.get("/")
async def home(request: Request, d: D, s: S) -> Response:
    if await s.session(request) is None:
        return welcome(request)
    return await _home(await visit(request, d, s))


async def _home(p: Visit) -> Response:
    await p.door.runs.sync(p.who.caller, p.who.token)
    rows, _ = await p.door.runs.page(p.who.caller, RunFilter(), 5, "")
    found = await api.list_datasets(p.door, p.who)
    usable = sum(1 for entry in found.datasets if entry.access.state == "granted")
    return p.page("home.html", section="home", runs=rows, usable=usable, datasets=len(found.datasets))


@router.get("/sign-in")
async def sign_in(s: S, back: Text = "/") -> Response:
    return await s.start(back if BACK.fullmatch(back) else "/")


@router.get("/signed-in")
async def signed_in(
    request: Request, s: S, state: Text = "", code: Text = "", error: Text = "", iss: Text = ""
) -> Response:
    """The provider sends the browser here."""
    back, claims = await s.finish(request, state=state, code="" if error else code, iss=iss)
    response = RedirectResponse(back if BACK.fullmatch(back) else "/", status_code=303)
    s.open(response, claims)
    return response


@router.post("/sign-out")
async def sign_out(request: Request, s: S) -> Response:
    claims, _ = await s.checked_form(request)
    response = public_page(request, "signed_out.html")
    await s.sign_out(claims, response)
    return response


@router.get("/language/{code}")
async def language(code: Literal["en", "de"], back: Text = "/") -> Response:
    response = see(back if BACK.fullmatch(back) else "/")
    response.set_cookie(LANGUAGE, code, max_age=365 * 86400, path="/", samesite="lax", httponly=True)
    return response


@router.get("/datasets")
async def datasets(p: P) -> Response:
    found = await api.list_datasets(p.door, p.who)
    nodes = {node.id: node for node in (await api.list_nodes(p.door, p.who)).nodes}
    return p.page("datasets.html", section="datasets", datasets=found.datasets, prefixes=found.prefixes, nodes=nodes)


@router.get("/datasets/about")
async def dataset(p: P, name: Annotated[str, Query(alias="id", max_length=MAX_DATASET_ID)]) -> Response:
    """One dataset: what a catalogue and its node say of it, and the workflows that may be asked of it."""
    entry = next((e for e in (await api.list_datasets(p.door, p.who)).datasets if e.id == name), None)
    if entry is None:
        raise ProblemError(404, "not-found", p.texts("datasets.nobodys"), action=p.texts("problem.back"))
    nodes = {node.id: node for node in (await api.list_nodes(p.door, p.who)).nodes}
    limits = nodes[entry.node].limits if entry.node in nodes else []
    workflows = (await api.list_workflows(p.door)).workflows
    return p.page("dataset.html", section="datasets", entry=entry, nodes=nodes, limits=limits, workflows=workflows)


@router.get("/nodes")
async def nodes(p: P) -> Response:
    found = await api.list_nodes(p.door, p.who)
    return p.page("nodes.html", section="nodes", nodes=found.nodes)


@router.get("/assets/{version}/{name}")
async def static(version: str, name: str) -> Response:
    found = asset(version, name)
    if found is None:
        raise ProblemError(404, "not-found", "There is no such file.", action="Go back.")
    return found
