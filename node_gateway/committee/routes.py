"""`/review/uses`: members of the node's access committee (`committee` of its policy) see uses, stop a run or a person,
take a report. `/audit` on the internal listener: the operator's page, with filters.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Path, Query, Request, Response
from fastapi.responses import RedirectResponse, StreamingResponse
from fastapi.routing import APIRoute

from gdi.contracts.ids import RUN_ID, matches
from gdi.kit.problem import ProblemError
from gdi.kit.report import MOST_IN_PDF, download
from gdi.kit.web import accepts, html_errors, style_sheet
from node_gateway.audit import AuditEvent
from node_gateway.audit_search import AuditFilter, AuditRefused, latest, moment
from node_gateway.auth import Caller
from node_gateway.committee import pages
from node_gateway.context import Gateway
from node_gateway.review.sign_in import SESSION, ReviewSignIn
from node_gateway.tasks.tes_client import TesAway
from node_gateway.uses import NodeUse, TooManyLines, day, uses

Text = Annotated[str, Query(max_length=300)]
PERIOD, PAGE = 30, 200  # days before today; rows at once
BACK = "Go back and correct it."


async def chosen(
    since: Text = "", until: Text = "", user: Text = "", dataset: Text = "", run: Text = "", refused: Text = ""
) -> dict[str, str]:
    """The form: days are whole, in UTC, and the last is included."""
    today = datetime.now(UTC).date()
    first = since.strip() or (today - timedelta(days=PERIOD)).isoformat()
    given = {"since": first, "until": until.strip() or today.isoformat()}
    return given | {"user": user.strip(), "dataset": dataset.strip(), "run": run.strip(), "refused": refused}


W = Annotated[dict[str, str], Depends(chosen)]


def router(gateway: Gateway) -> APIRouter:
    """The public pages; where no provider is set there are none (404)."""
    routes = APIRouter(
        prefix="/review/uses",
        include_in_schema=False,
        route_class=html_errors(pages.problem) if gateway.sign_in else APIRoute,
    )
    node = gateway.settings.node_id

    def sign_in() -> ReviewSignIn:
        if gateway.sign_in is None:
            raise ProblemError(404, "not-found", "This node names no provider.", action="Ask the node's operator.")
        return gateway.sign_in

    async def member(request: Request, session: dict[str, Any]) -> tuple[str, str]:
        """(sub, CSRF token) of a member by the policy of now; a 403 otherwise, which the audit has."""
        user = str(session["sub"])
        if user not in gateway.policy.current().committee:
            what = f"{request.method} {request.url.path}"
            reason = "forbidden: not of this node's access committee"
            await gateway.audit.record(AuditEvent("committee", False, f"signed in as {user}", what=what, reason=reason))
            raise ProblemError(
                403,
                "forbidden",
                f"{user} is not of this node's access committee.",
                action="Ask the node's operator to name you under `committee` in its policy.",
            )
        return user, str(session["csrf"])

    async def member_of(request: Request) -> tuple[str, str] | None:
        session = await sign_in().session(request)
        return None if session is None else await member(request, session)

    async def found(wanted: dict[str, str], who: str, what: str) -> list[NodeUse]:
        try:
            since, until = day(wanted["since"]), day(wanted["until"], end=True)
            named = AuditFilter(
                wanted["run"],
                wanted["user"],
                wanted["dataset"],
                since=since,
                until=until,
                refused=bool(wanted["refused"]),
            )
            listed = await uses(gateway.database, named)
        except (ValueError, OverflowError):
            raise ProblemError(422, "invalid-request", "A day is written 2026-11-30.", action=BACK) from None
        except TooManyLines as error:
            raise ProblemError(
                422, "invalid-request", f"The period is too long ({error}).", action="Choose a shorter one."
            ) from None
        given = ", ".join(f"{name} {value}" for name, value in wanted.items() if value)
        await gateway.audit.record(AuditEvent("committee-look", True, f"committee {who}", what=f"{what}: {given}"))
        return listed

    @routes.get("")
    async def look(request: Request, wanted: W) -> Response:
        who = await member_of(request)
        if who is None:
            return pages.welcome(node)
        listed = await found(wanted, who[0], "page")
        stops = await gateway.stops.all()
        return pages.uses(node, *who, wanted, listed[:PAGE], stops, more=max(0, len(listed) - PAGE))

    @routes.get("/report.{kind}")
    async def report(request: Request, wanted: W, kind: Literal["csv", "pdf"]) -> Response:
        who = await member_of(request)
        if who is None:
            return pages.welcome(node)
        listed = (await found(wanted, who[0], f"report as {kind}"))[::-1]
        if kind == "pdf" and len(listed) > MOST_IN_PDF:
            raise ProblemError(
                422, "invalid-request", f"{len(listed)} runs are too many for a PDF.", action="Take the CSV."
            )
        name = f"uses-{node}-{wanted['since']}-{wanted['until']}"
        return await download(pages.report(node, who[0], wanted, listed), kind, name)

    @routes.get("/stop")
    async def ask(request: Request, run: Text = "", person: Text = "") -> Response:
        who = await member_of(request)
        if who is None:
            return pages.welcome(node)
        _named(run, person)
        return pages.ask(node, *who, run, person, await gateway.stops.open_runs(run=run or None, person=person or None))

    @routes.post("/stop")
    async def stop(request: Request) -> Response:
        session, form = await sign_in().cookies.checked_form(request, SESSION)
        who, _ = await member(request, session)
        run, person, reason = (" ".join((form.get(name) or [""])[0].split()) for name in ("run", "person", "reason"))
        _named(run, person)
        if not 3 <= len(reason) <= 500:
            raise ProblemError(422, "invalid-request", "Give a reason of 3 to 500 characters.", action=BACK)
        made = await gateway.stops.make(who, run=run or None, person=person or None, reason=reason)
        going = await gateway.stops.open_runs(run=run or None, person=person or None)
        away = [one for one, (user, attempt) in going.items() if not await _end(gateway, one, user, attempt)]
        return pages.done(made, len(going), away)

    @routes.post("/lift/{number}")
    async def lift(request: Request, number: Annotated[int, Path(ge=1, le=2**31)]) -> Response:
        session, _ = await sign_in().cookies.checked_form(request, SESSION)
        who, _ = await member(request, session)
        await gateway.stops.lift(who, number)
        return RedirectResponse(gateway.settings.public_url + "/review/uses", status_code=303)

    return routes


def _named(run: str, person: str) -> None:
    if bool(run) == bool(person) or (run and not matches(RUN_ID, run)) or len(person) > 255:
        raise ProblemError(422, "invalid-request", "Name a run (r-…) or a person.", action=BACK)


async def _end(gateway: Gateway, run: str, user: str, attempt: int) -> bool:
    """Its capabilities end and its tasks are cancelled, as at a run's end. False where the TES is away: no task of it
    can read or write any more all the same.
    """
    nobody: frozenset[str] = frozenset()
    ended = Caller(user, run, gateway.settings.node_id, attempt, "", "", nobody, nobody, 0, "access committee")
    try:
        await gateway.tasks.close(ended, attempt)
    except TesAway:
        return False
    return True


def internal_router(gateway: Gateway) -> APIRouter:
    routes = APIRouter(include_in_schema=False)

    @routes.get("/review/style.css")
    async def style() -> Response:
        return style_sheet()

    @routes.get("/audit")
    async def audit(
        request: Request,
        after: Annotated[int, Query(ge=0)] = 0,
        before: Annotated[int | None, Query(ge=1, le=2**53)] = None,
        run: str = "",
        user: Text = "",
        dataset: Text = "",
        action: Text = "",
        text: Text = "",
        since: Text = "",
        until: Text = "",
        refused: Text = "",
        limit: Annotated[int, Query(ge=1, le=10_000)] = 1000,
    ) -> Response:
        """To a browser a page with filters, the latest first. To programs JSON lines, oldest first; each `hash` is
        SHA-256 over `previous`, a newline and the entry's canonical JSON.
        """
        if accepts(request.headers.get("accept", ""), "text/html") and "html" in request.headers.get("accept", ""):
            wanted = {"run": run, "user": user, "dataset": dataset, "action": action, "text": text}
            wanted |= {"since": since, "until": until, "refused": refused}
            try:
                first, last = moment(since) if since else 0.0, moment(until) if until else float("inf")
            except AuditRefused as error:
                return pages.problem(str(error), BACK, 422)
            named = AuditFilter(run, user, dataset, action, text, first, last, bool(refused))
            found, older = await latest(gateway.database, named, before=before, limit=PAGE)
            return pages.audit(gateway.settings.node_id, wanted, found, older)

        async def lines() -> AsyncIterator[bytes]:
            async for entry in gateway.audit.lines(after=after, run=run, limit=limit):
                yield json.dumps(entry, ensure_ascii=False).encode() + b"\n"

        return StreamingResponse(lines(), media_type="application/x-ndjson")

    return routes
