"""The committee's pages and the audit's: what each template in `templates/` is given, and the report of uses."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any
from urllib.parse import urlencode

from fastapi.responses import HTMLResponse

from gdi.kit.report import TableReport
from gdi.kit.times import date
from gdi.kit.web import Pages
from node_gateway.audit_search import SHOWN
from node_gateway.stops import NodeStop
from node_gateway.uses import NodeUse

PAGES = Pages("node_gateway.committee", style="/review/style.css", urlencode=urlencode)
BACK = ("/review/uses", "All uses")
COLUMNS = ("First", "Last", "Person", "Workflow", "Run", "Datasets (files read)", "Visa", "What left", "Refused")
WIDTHS = (9, 9, 14, 12, 13, 16, 16, 20, 16)


def problem(detail: str, action: str, status: int) -> HTMLResponse:
    return PAGES.message("That did not work", detail, action, link=BACK, status=status)


def welcome(node: str) -> HTMLResponse:
    return PAGES.render("committee_welcome.html", title=f"Access committee of {node}")


def uses(
    node: str,
    user: str,
    csrf: str,
    wanted: dict[str, str],
    found: Sequence[NodeUse],
    stops: Sequence[NodeStop],
    *,
    more: int,
) -> HTMLResponse:
    """`more`: how many uses of the period are not shown."""
    return PAGES.render(
        "uses.html",
        title=f"Uses of data at {node}",
        user=user,
        csrf=csrf,
        wanted=wanted,
        uses=found,
        more=more,
        stops=stops,
        stopped={one.run or one.person for one in stops if one.lifted_at is None},
    )


def ask(node: str, user: str, csrf: str, run: str, person: str, going: dict[str, tuple[str, int]]) -> HTMLResponse:
    """Before a stop: what would end."""
    title = f"Stop {run or person} at {node}?"
    return PAGES.render(
        "ask_stop.html", title=title, node=node, user=user, csrf=csrf, run=run, person=person, going=going
    )


def done(stop: NodeStop, ended: int, away: Sequence[str]) -> HTMLResponse:
    ends = f"Runs that were ended here: {ended}."
    late = f"The TES could not be told of {', '.join(away)}: stop them again in a minute." if away else ""
    return PAGES.message(f"Stopped: {stop.run or stop.person}", stop.reason, ends, *([late] if late else []), link=BACK)


def audit(node: str, wanted: dict[str, str], found: Sequence[dict[str, Any]], older: int | None) -> HTMLResponse:
    """`found`: entries, the latest first. `older`: the number before which the next page begins."""
    return PAGES.render(
        "audit.html", title=f"Audit of {node}", wanted=wanted, entries=found, older=older, columns=SHOWN
    )


def report(node: str, member: str, wanted: dict[str, str], found: Sequence[NodeUse]) -> TableReport:
    people, left = {use.user for use in found if use.user}, sum(len(use.left) for use in found)
    facts = [
        ("Period", f"{wanted['since']} to {wanted['until']} (UTC, both days included)"),
        ("Runs", str(len(found))),
        ("People", str(len(people))),
        ("Datasets", str(len({d for use in found for d in use.datasets}))),
        ("Releases that left", str(left)),
        ("Made", f"{date(time.time())}, {member}"),
        *((f"Only {name}", wanted[name]) for name in ("user", "dataset", "run", "refused") if wanted.get(name)),
    ]
    return TableReport(f"Uses of data at {node}", facts, COLUMNS, [_row(use) for use in found], WIDTHS)


def _row(use: NodeUse) -> list[str]:
    datasets = ", ".join(f"{name} ({count})" for name, count in sorted(use.datasets.items()))
    proofs = "; ".join(use.visas) or "as the coordinator said"
    times = (date(use.first), date(use.last))
    return [*times, use.user, use.workflow, use.run, datasets, proofs, "; ".join(use.left), "; ".join(use.refused)]
