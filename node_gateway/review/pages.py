"""The review pages' HTML: no script; every value is escaped where it is put in."""

from __future__ import annotations

from html import escape
from urllib.parse import quote

from fastapi.responses import HTMLResponse

from gdi.kit import web
from gdi.kit.web import date, hidden
from node_gateway.review.service import MAX_REASON, Case, Excerpt

PAGE = 200  # rows at once


def page(title: str, body: str, *, status: int = 200) -> HTMLResponse:
    return web.page(title, body, style="/review/style.css", status=status)


def problem(detail: str, action: str, status: int) -> HTMLResponse:
    return page(
        "That did not work",
        f'<p>{escape(detail)}</p><p>{escape(action)}</p><p><a href="/review">All releases that wait</a></p>',
        status=status,
    )


def welcome(node: str, back: str) -> HTMLResponse:
    return page(
        f"Review at {node}",
        "<p>Results of analyses wait here for a person of this node before they leave it. Sign in as a reviewer to see"
        " them.</p>"
        # no form: form-action would forbid its redirect
        f'<p><a href="/review/sign-in?back={quote(back, safe="")}">Sign in</a></p>',
    )


def waiting(node: str, user: str, csrf: str, cases: list[Case]) -> HTMLResponse:
    rows = "".join(
        f"<tr><td>{date(c.time)}</td><td>{escape(str(c.asked.get('workflow', '')))}</td>"
        f"<td>{escape(', '.join(c.asked.get('datasets', [])))}</td>"
        f'<td><a href="{address(c)}">{escape(c.name)} of {escape(c.run)}</a></td>'
        f'<td class="number">{int(c.answer["sites_released"])} {escape(c.unit)}s</td>'
        f'<td class="number">{int(c.answer["sites_withheld"])}</td></tr>'
        for c in cases
    )
    names = ("Asked", "Workflow", "Datasets", "Release", "Would leave", "Withheld")
    head = "<tr>" + "".join(f"<th>{name}</th>" for name in names) + "</tr>"
    table = (
        f'<table class="wide"><thead>{head}</thead><tbody>{rows}</tbody></table>' if rows else "<p>Nothing waits.</p>"
    )
    return page(f"Releases that wait at {node}", _signed_in(user, csrf) + table)


def case(node: str, user: str, csrf: str, found: Case, shown: Excerpt, start: int) -> HTMLResponse:
    asked, answer, units = found.asked, found.answer, f"{escape(shown.unit)}s"
    withheld = "; ".join(f"{escape(why)}: {int(n)} {units}" for why, n in answer["withheld"].items()) or "nothing"
    facts = {
        "Asked by": escape(str(asked.get("user", ""))),
        "Workflow": f"{escape(str(asked.get('workflow', '')))}<br><code>{escape(str(asked.get('digest', '')))}</code>",
        "Datasets": escape(", ".join(asked.get("datasets", []))),
        "Run": (
            f"<code>{escape(found.run)}</code>, attempt {escape(str(asked.get('attempt', '')))}, asked"
            f" {date(found.time)}"
        ),
        "Would leave": (
            f"{int(answer['sites_released'])} {units}, {int(answer['bytes'])} bytes, SHA-256"
            f" <code>{escape(found.sha256)}</code>"
        ),
        "Withheld by this node's check": withheld,
    }
    about = "".join(f"<tr><th>{k}</th><td>{v}</td></tr>" for k, v in facts.items())
    body = "".join("<tr>" + "".join(_cell(value) for value in row) + "</tr>" for row in shown.rows)
    head = "".join(f"<th>{escape(name)}</th>" for name in shown.columns)
    decide = (
        f'<form method="post" action="{address(found)}">{hidden(csrf)}{hidden(found.sha256, "sha256")}<label>Reason'
        ' (needed to refuse; it is told to the user, so it leaves the node) <textarea name="reason" rows="3"'
        f' maxlength="{MAX_REASON}"></textarea></label><button name="decision" value="approve">Approve: let it'
        ' leave</button> <button class="quiet" name="decision" value="refuse">Refuse</button></form>'
    )
    table = f'<table class="wide"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>'
    return page(
        f"{found.name} of {found.run}",
        f"{_signed_in(user, csrf)}<table>{about}</table>{decide}<h2>All that would leave"
        f" {escape(node)}</h2>{_pager(found, start, len(shown.rows))}{table}",
    )


def decided(approve: bool, found: str) -> HTMLResponse:
    what = "It may leave; its run goes on." if approve else "It stays; its run is told your reason."
    return page(
        "Approved" if approve else "Refused",
        f'<p>{escape(found)}: {what}</p><p><a href="/review">All releases that wait</a></p>',
    )


def address(found: Case) -> str:
    return f"/review/{quote(found.run, safe='')}/{quote(found.name, safe='')}"


def _signed_in(user: str, csrf: str) -> str:
    return (
        f'<form class="inline" method="post" action="/review/sign-out">{hidden(csrf)}<p>Signed in as'
        f' <strong>{escape(user)}</strong>. <a href="/review">All that waits</a> <button class="quiet">Sign'
        " out</button></p></form>"
    )


def _pager(found: Case, start: int, shown: int) -> str:
    if start == 0 and shown < PAGE:
        return f"<p>Rows 1 to {shown}.</p>"
    before = f'<a href="{address(found)}?start={max(0, start - PAGE)}">Before</a> ' if start else ""
    after = f' <a href="{address(found)}?start={start + PAGE}">After</a>' if shown == PAGE else ""
    return f"<p>{before}Rows {start + 1} to {start + shown}.{after}</p>"


def _cell(value: str | int | float) -> str:  # as the check let it pass
    return f'<td class="number">{value}</td>' if isinstance(value, int | float) else f"<td>{escape(str(value))}</td>"
