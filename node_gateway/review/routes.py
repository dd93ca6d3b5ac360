"""`/review`: reviewers sign in, see what would leave, approve or refuse. On the internal listener the node's operators
do the same as JSON.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import RedirectResponse
from fastapi.routing import APIRoute
from pydantic import Field

from gdi.contracts.ids import RELEASE_NAME, RUN_ID, ReleaseName, RunId, Sha256
from gdi.kit.models import Strict
from gdi.kit.problem import ProblemError
from gdi.kit.web import html_errors, style_sheet
from node_gateway.audit import AuditEvent
from node_gateway.context import Gateway
from node_gateway.file_answer import file_answer
from node_gateway.own_tasks.recounts import Recount
from node_gateway.review import pages
from node_gateway.review.cases import AT_NODE, Case
from node_gateway.review.service import MAX_REASON
from node_gateway.review.sign_in import SESSION, ReviewSignIn

BACK = re.compile(rf"/review(/uses|/{RUN_ID}/{RELEASE_NAME})?")
Text = Annotated[str, Query(max_length=4000)]


def router(gateway: Gateway) -> APIRouter:
    """The public pages; where no provider is set there are none (404)."""
    routes = APIRouter(
        prefix="/review",
        include_in_schema=False,
        route_class=html_errors(pages.problem) if gateway.sign_in else APIRoute,
    )
    node = gateway.settings.node_id

    def sign_in() -> ReviewSignIn:
        if gateway.sign_in is None:
            raise ProblemError(
                404,
                "not-found",
                "Reviewers cannot sign in here: this node names no provider.",
                action="Ask the node's operator.",
            )
        return gateway.sign_in

    async def reviewer(request: Request, session: dict[str, Any]) -> tuple[str, str]:
        """(sub, CSRF token) of a reviewer by the policy of now."""
        user = str(session["sub"])
        if not gateway.reviews.may(user):
            reason = "forbidden: not a reviewer of this node"
            await gateway.audit.record(
                AuditEvent(
                    "review", False, f"signed in as {user}", what=f"{request.method} {request.url.path}", reason=reason
                )
            )
            raise ProblemError(
                403,
                "forbidden",
                f"{user} is no reviewer of this node.",
                action="Ask the node's operator to name you in its policy.",
            )
        return user, str(session["csrf"])

    @routes.get("/style.css")
    async def style() -> Response:
        return style_sheet()

    @routes.get("")
    async def waiting(request: Request) -> Response:
        session = await sign_in().session(request)
        if session is None:
            return pages.welcome(node, "/review")
        user, csrf = await reviewer(request, session)
        return pages.waiting(node, user, csrf, await gateway.reviews.waiting())

    @routes.get("/sign-in")
    async def start(back: Text = "/review") -> Response:
        return await sign_in().start(back if BACK.fullmatch(back) else "/review")

    @routes.get("/callback")
    async def callback(request: Request, state: Text = "", code: Text = "", iss: Text = "") -> Response:
        user, back = await sign_in().finish(request, state=state, code=code, iss=iss)
        if user not in gateway.policy.current().committee:
            await reviewer(request, {"sub": user, "csrf": ""})
        response = RedirectResponse(gateway.settings.public_url + back, status_code=303)
        sign_in().open_session(response, user)
        await gateway.audit.record(AuditEvent("review-sign-in", True, f"reviewer {user}"))
        return response

    @routes.post("/sign-out")
    async def sign_out(request: Request) -> Response:
        session, _ = await sign_in().cookies.checked_form(request, SESSION)
        response = pages.signed_out()
        await sign_in().cookies.sign_out(session, response, SESSION)
        return response

    @routes.get("/{run}/{name}")
    async def look(
        request: Request, run: RunId, name: ReleaseName, start: Annotated[int, Query(ge=0, le=10**8)] = 0
    ) -> Response:
        session = await sign_in().session(request)
        if session is None:
            return pages.welcome(node, f"/review/{run}/{name}")
        user, csrf = await reviewer(request, session)
        case = await gateway.reviews.case(run, name)
        shown = await gateway.reviews.excerpt(case, start, pages.PAGE)
        await gateway.audit.record(
            AuditEvent(
                "review-look", True, f"reviewer {user}", run, what=f"{name} sha256 {case.sha256}, from row {start + 1}"
            )
        )
        before = await gateway.reviews.left_before(case)
        recount = await gateway.recounts.look(case)
        return pages.case(node, user, csrf, case, shown, start, before, _approval(gateway, case), recount)

    @routes.get("/{run}/{name}/whole")
    async def whole(request: Request, run: RunId, name: ReleaseName) -> Response:
        """The very bytes that would leave, as a download."""
        session = await sign_in().session(request)
        if session is None:
            return pages.welcome(node, f"/review/{run}/{name}")
        user, _ = await reviewer(request, session)
        case = await gateway.reviews.case(run, name)
        what = f"{name} sha256 {case.sha256}, the whole"
        await gateway.audit.record(AuditEvent("review-look", True, f"reviewer {user}", run, what=what))
        disposition = f'attachment; filename="{run}-{name}"'
        headers = {"Content-Disposition": disposition, "X-Content-Type-Options": "nosniff"}

        async def write(file: Path) -> str:
            await gateway.reviews.content(case, file)
            return "application/octet-stream"

        return await file_answer(write, headers)

    @routes.post("/{run}/{name}")
    async def decide(request: Request, run: RunId, name: ReleaseName) -> Response:
        session, form = await sign_in().cookies.checked_form(request, SESSION)
        user, _ = await reviewer(request, session)
        given = {key: values[0] for key, values in form.items() if values}
        decision, reason = given.get("decision", ""), given.get("reason", "").strip()
        if decision not in ("approve", "refuse") or len(reason) > MAX_REASON or (decision == "refuse" and not reason):
            raise ProblemError(
                422,
                "invalid-request",
                f"To refuse, give a reason of at most {MAX_REASON} characters.",
                action="Go back and write it.",
            )
        approve = decision == "approve"
        if given.get("sure") != "yes":
            case = await gateway.reviews.case(run, name, given.get("sha256", ""))
            return pages.sure(node, user, str(session["csrf"]), case, decision, reason)
        await gateway.reviews.decide(run, name, given.get("sha256", ""), reviewer=user, approve=approve, reason=reason)
        return pages.decided(approve, f"{name} of {run}")

    return routes


def _approval(gateway: Gateway, case: Case) -> str:
    policy, request = gateway.policy.current(), case.request
    if policy.unattested:
        return "unknown: the coordinator started Snakemake, and which workflow it was is its word alone"
    if policy.approves(str(request.get("workflow", "")), str(request.get("digest", ""))):
        return "named in this node's policy"
    return "nobody: this node's policy allows every workflow"


class Decision(Strict):
    """A reviewer's decision on the bytes with this SHA-256."""

    sha256: Sha256
    reviewer: Annotated[str, Field(min_length=1, max_length=200)]
    approve: bool
    reason: Annotated[str, Field(max_length=MAX_REASON)] = ""


def internal_router(gateway: Gateway) -> APIRouter:
    routes = APIRouter()

    @routes.get("/review")
    async def waiting() -> dict[str, Any]:
        found = await gateway.reviews.waiting()
        return {
            "waiting": [
                {
                    "run": c.run,
                    **{k: v for k, v in c.answer.items() if k not in ("signature", AT_NODE)},
                    "sites_withheld": sum(c.withheld.values()),
                    "withheld": c.withheld,
                    "asked": c.request,
                    "asked_at": c.time,
                }
                for c in found
            ]
        }

    @routes.get("/review/{run}/{name}/recount")
    async def recount(run: RunId, name: ReleaseName) -> Recount:
        """What the node's own task counted beside the release that waits."""
        case = await gateway.reviews.case(run, name)
        return await gateway.recounts.look(case)

    @routes.post("/review/{run}/{name}", status_code=204)
    async def decide(run: RunId, name: ReleaseName, decision: Decision) -> Response:
        await gateway.reviews.decide(
            run, name, decision.sha256, reviewer=decision.reviewer, approve=decision.approve, reason=decision.reason
        )
        return Response(status_code=204)

    return routes
