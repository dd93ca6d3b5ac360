"""The API's answers as tables for a terminal. What came from elsewhere is shown as plain text, never as markup."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence

from rich.console import Group, RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from gdi.contracts import portal_api as p
from gdi.contracts.access import DatasetEntry
from gdi.contracts.grants import Grant

MOST_COHORTS = 20  # of a dataset, in a table
COLOURS = {
    "succeeded": "green",
    "granted": "green",
    "active": "green",
    "ready": "green",
    "failed": "red",
    "refused": "red",
    "not ready": "red",
    "dead": "red",
    "running": "cyan",
    "waiting": "yellow",
}


def _state(text: str) -> Text:
    return Text(text, COLOURS.get(text, ""))


def _when(seconds: float | None) -> str:
    return "" if seconds is None else time.strftime("%Y-%m-%d %H:%M", time.localtime(seconds))


def _table(columns: Sequence[str], rows: Iterable[Sequence[RenderableType]]) -> Table:
    made = Table(box=None, pad_edge=False, header_style="dim")
    for number, column in enumerate(columns):  # the first one is an id, to be copied whole
        made.add_column(column, overflow="fold", no_wrap=number == 0)
    for row in rows:
        made.add_row(*(Text(cell) if isinstance(cell, str) else cell for cell in row))
    return made


def datasets(found: list[DatasetEntry]) -> RenderableType:
    def note(entry: DatasetEntry) -> str:
        if entry.access.state == "granted":
            until = f"until {_when(entry.access.until)}" if entry.access.until else ""
            groups = [one.words for one in entry.cohorts.choices[:MOST_COHORTS]] if entry.cohorts else []
            return "; ".join(x for x in (until, f"cohorts: {', '.join(groups)}" if groups else "") if x)
        return " ".join(x for x in (entry.access.sentence, entry.how_to_apply, entry.apply_url) if x)

    rows = ((e.id, e.title, e.node, _state(e.access.state), note(e)) for e in found)
    return _table(("dataset", "title", "node", "access", ""), rows)


def workflows(found: list[p.CatalogueWorkflow]) -> RenderableType:
    return _table(("workflow", "version", "title"), ((w.name, w.version, w.title) for w in found))


def workflow(found: p.CatalogueWorkflow) -> RenderableType:
    properties: dict[str, dict[str, object]] = found.parameters.get("properties") or {}
    required = found.parameters.get("required") or []
    rows = (
        (
            name,
            str(part.get("type") or ""),
            "required" if name in required else str(part.get("default", "")),
            str(part.get("description") or part.get("title") or ""),
        )
        for name, part in properties.items()
    )
    return Group(
        Text(f"{found.title}  {found.version}", "bold"),
        Text(found.description.rstrip()),
        _table(("parameter", "type", "default", ""), rows),
    )


def preflight(found: p.StartChecked) -> RenderableType:
    rows = (
        (
            part.node,
            ", ".join(e.id for e in part.datasets),
            _state("ready" if part.ready else "not ready"),
            part.sentence,
        )
        for part in found.nodes
    )
    consent = "Your consent covers it." if found.grants else "You have to give consent: --once or --consent-days."
    return Group(_table(("node", "datasets", "", ""), rows), Text(found.sentence), Text(consent))


def run(found: p.RunEntry) -> RenderableType:
    head = Text.assemble(_state(found.state), ": ", found.sentence)
    rows = (
        (
            node.node,
            node.state,
            ProgressBar(total=max(1, node.total), completed=node.done, width=30),
            f"{node.done}/{node.total}",
            node.message,
        )
        for node in found.nodes
    )
    return Group(head, _table(("node", "", "", "jobs", ""), rows), Text(found.next_step, "dim"))


def runs(found: list[p.RunSummary]) -> RenderableType:
    rows = ((r.id, _when(r.created_at), r.workflow, _state(r.state), r.sentence) for r in found)
    return _table(("run", "started", "workflow", "state", ""), rows)


def results(found: p.RunResults) -> RenderableType:
    def left(entry: p.ReleaseEntry) -> str:
        withheld = "" if entry.withheld is None else f", {entry.withheld:,} withheld"
        return f"{entry.released:,} × {entry.unit}{withheld}"

    releases = ((r.node, r.title or r.name, left(r), "verified" if r.verified else r.verdict) for r in found.releases)
    files = ((f.name, f.title, "" if f.bytes is None else f"{f.bytes:,} bytes") for f in found.files)
    return Group(
        Text.assemble(_state(found.state), ": ", found.sentence),
        _table(("node", "release", "left the node", "signature"), releases),
        _table(("file", "", ""), files),
    )


def grants(found: list[Grant]) -> RenderableType:
    def note(grant: Grant) -> str:
        if grant.schedule is None:
            return grant.detail
        due = f"; next {_when(grant.schedule.next_due)}" if grant.schedule.next_due else ""
        return f"{grant.schedule.cron} ({grant.schedule.timezone}): {grant.schedule.state}{due} {grant.schedule.reason}"

    rows = (
        (g.id, _state(g.state), ", ".join(g.workflows), ", ".join(g.datasets), _when(g.expires_at), note(g))
        for g in found
    )
    return _table(("grant", "state", "workflows", "datasets", "until", ""), rows)
