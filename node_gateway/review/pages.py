"""The review's pages: what each template in `templates/` is given."""

from __future__ import annotations

from collections.abc import Sequence
from urllib.parse import quote

from fastapi.responses import HTMLResponse

from gdi.kit.web import Pages
from node_gateway.own_tasks.recounts import Recount
from node_gateway.review.cases import AT_NODE, Case, Excerpt
from node_gateway.review.service import MAX_REASON

PAGE = 200  # rows at once


def address(found: Case) -> str:
    return f"/review/{quote(found.run, safe='')}/{quote(found.name, safe='')}"


PAGES = Pages("node_gateway.review", style="/review/style.css", address=address, max_reason=MAX_REASON)
ALL = ("/review", "All releases that wait")


def problem(detail: str, action: str, status: int) -> HTMLResponse:
    return PAGES.message("That did not work", detail, action, link=ALL, status=status)


def welcome(node: str, back: str) -> HTMLResponse:
    return PAGES.render("welcome.html", title=f"Review at {node}", back=back)


def waiting(node: str, user: str, csrf: str, cases: list[Case]) -> HTMLResponse:
    return PAGES.render("waiting.html", title=f"Releases that wait at {node}", user=user, csrf=csrf, cases=cases)


def case(
    node: str,
    user: str,
    csrf: str,
    found: Case,
    shown: Excerpt,
    start: int,
    before: Sequence[Case] = (),
    approval: str = "",
    recount: Recount | None = None,
) -> HTMLResponse:
    """`shown`: the rows of the release from number `start` (from 0), at most PAGE of them. `before`: what left of the
    same people. `approval`: who approved the workflow. `recount`: what the node's own task counted.
    """
    return PAGES.render(
        "case.html",
        title=f"{found.name} of {found.run}",
        node=node,
        user=user,
        csrf=csrf,
        case=found,
        shown=shown,
        start=start,
        before=[(one, one.answer.get(AT_NODE, {})) for one in before],
        approval=approval,
        recount=recount,
        people=found.answer.get(AT_NODE, {}).get("people"),
        remarks=found.answer.get(AT_NODE, {}).get("remarks", []),
        page_size=PAGE,
        more=len(shown.rows) == PAGE,
    )


def sure(node: str, user: str, csrf: str, found: Case, decision: str, reason: str) -> HTMLResponse:
    """Asks before it acts."""
    title = f"{decision.capitalize()} {found.name}?"
    return PAGES.render(
        "sure.html", title=title, node=node, user=user, csrf=csrf, case=found, decision=decision, reason=reason
    )


def decided(approve: bool, found: str) -> HTMLResponse:
    what = "It may leave; its run goes on." if approve else "It stays; its run is told your reason."
    return PAGES.message("Approved" if approve else "Refused", f"{found}: {what}", link=ALL)


def signed_out() -> HTMLResponse:
    return PAGES.message("Signed out", "You are signed out here.", link=("/review", "Sign in"))
