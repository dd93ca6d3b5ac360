"""The broker's pages: what each template in `templates/` is given."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from fastapi.responses import HTMLResponse
from sqlalchemy import RowMapping

from gdi.contracts.grants import Grant, Ticket
from gdi.kit.web import Pages

PAGES = Pages("token_broker.web", style="/connect/style.css")


def first(portal: str | None) -> HTMLResponse:
    """What this is, for whoever opens its address, and where to go. `portal`: where people start analyses."""
    return PAGES.render("first.html", title="The token broker of a GDI federation", portal=portal)


def problem(detail: str, action: str, status: int) -> HTMLResponse:
    if status == 401:
        about = "Here you see what you allowed to run on your behalf, and take it back. Sign in with LS AAI first."
        return PAGES.message("Your consents", detail, about, link=("/connect", "Sign in"), status=status)
    return PAGES.message("That did not work", detail, action, link=("/connect", "Start again"), status=status)


def consent(
    user: str, csrf: str, workflows: str, datasets: Iterable[tuple[str, bool, str]], max_days: float
) -> HTMLResponse:
    """`datasets`: id, whether ticked, and what to say of it."""
    return PAGES.render(
        "consent.html", user=user, csrf=csrf, workflows=workflows, datasets=list(datasets), max_days=f"{max_days:g}"
    )


def grants(user: str, csrf: str, found: list[Grant]) -> HTMLResponse:
    return PAGES.render("grants.html", user=user, csrf=csrf, grants=found)


def revoke(csrf: str, grant: Grant, runs: Sequence[RowMapping]) -> HTMLResponse:
    """Asks first: `runs` end with it."""
    return PAGES.render("revoke.html", csrf=csrf, grant=grant, runs=runs)


def start(user: str, csrf: str, found: list[Grant], workflow: str, digest: str) -> HTMLResponse:
    """The grants that cover a workflow, each with a form that makes a ticket."""
    return PAGES.render("start.html", user=user, csrf=csrf, grants=found, workflow=workflow, digest=digest)


def ticket(made: Ticket, workflow: str, datasets: list[str]) -> HTMLResponse:
    return PAGES.render("ticket.html", ticket=made, workflow=workflow, datasets=datasets)


def signed_out() -> HTMLResponse:
    return PAGES.message("Signed out", "You are signed out here.", link=("/connect", "Sign in"))
