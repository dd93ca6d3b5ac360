"""The pages' HTML: no script, no inline style; every value is escaped where it is put in."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape

from fastapi.responses import HTMLResponse

from gdi.contracts.grants import Grant
from gdi.kit import web
from gdi.kit.web import date, hidden

SCHEDULE = (  # of the consent form; left empty, nothing starts by itself
    "<fieldset><legend>Start by itself (only if you want that)</legend><label>When, as in cron: minute, hour, day,"
    ' month, weekday <input type="text" name="cron" maxlength="200" placeholder="0 6 * * mon"></label><label>In the'
    ' time zone <input type="text" name="timezone" value="UTC" maxlength="64"'
    ' placeholder="Europe/Helsinki"></label><label>What was missed while the system was away <select'
    ' name="catch_up"><option value="latest">start once</option><option value="all">start each</option><option'
    ' value="none">skip</option></select></label><label>The workflow\'s parameters, as JSON <textarea name="parameters"'
    ' rows="3" maxlength="20000" placeholder="{}"></textarea></label><p>It needs a single workflow above and starts on'
    " the chosen datasets. Your access is checked anew at each start.</p></fieldset>"
)


def page(title: str, body: str, *, status: int = 200) -> HTMLResponse:
    """`body` is HTML made by the functions below."""
    return web.page(title, body, style="/connect/style.css", status=status)


def problem(detail: str, action: str, status: int) -> HTMLResponse:
    return page(
        "That did not work",
        f'<p>{escape(detail)}</p><p>{escape(action)}</p><p><a href="/connect">Start again</a></p>',
        status=status,
    )


def consent(
    user: str, csrf: str, workflows: str, datasets: Iterable[tuple[str, bool, str]], max_days: float
) -> HTMLResponse:
    """`datasets`: id, whether ticked, and what to say of it."""
    boxes = "".join(
        f'<label><input type="checkbox" name="datasets" value="{escape(d)}"{" checked" if ticked else ""}>'
        f" <code>{escape(d)}</code> {escape(note)}</label>"
        for d, ticked, note in datasets
    )
    return page(
        "Allow analyses on your behalf",
        f"<p>You are signed in as <strong>{escape(user)}</strong>. You allow this federation to run the named workflows"
        " on the chosen datasets with your "
        f"access rights, until the grant ends or you revoke it. Only checked results leave a node.</p>"
        f'<form method="post" action="/connect/consent">{hidden(csrf)}'
        f'<fieldset><legend>Workflows</legend><label>Names, separated by commas <input type="text" name="workflows"'
        f' required maxlength="2000" '
        f'value="{escape(workflows)}"></label></fieldset>'
        f"<fieldset><legend>Datasets</legend>{boxes or '<p>You have no access to any dataset yet.</p>'}</fieldset>"
        '<fieldset><legend>How long</legend><label>Days <input type="number" name="days" value="30" min="1"'
        f' max="{max_days:g}" required></label>'
        f'<label>Good for <select name="mode"><option value="standing">any number of runs</option><option'
        f' value="once">one run</option></select></label>'
        f'<label>A name for it <input type="text" name="label" maxlength="255"></label></fieldset>{SCHEDULE}'
        '<button>Allow</button></form> <form class="inline" method="post"'
        f' action="/connect/discard">{hidden(csrf)}<button class="quiet">Cancel</button></form>'
        f'<p><a href="/connect/grants">My grants</a></p>',
    )


def grants(user: str, csrf: str, found: list[Grant]) -> HTMLResponse:
    rows = "".join(
        f"<tr><td><code>{escape(g.id)}</code><br>{escape(g.label)}</td>"
        f"<td>{escape(', '.join(g.workflows))}</td><td>{escape(', '.join(g.datasets))}</td>"
        f"<td>{escape(g.state)}<br>{escape(g.detail)}{_schedule(g)}</td>"
        f"<td>{date(g.expires_at)}</td><td>{_revoke(g, csrf)}</td></tr>"
        for g in found
    )
    table = (
        "<table><thead><tr><th>Grant</th><th>Workflows</th><th>Datasets</th><th>State</th><th>Ends</th><th></th></tr>"
        f"</thead><tbody>{rows}</tbody></table>"
    )
    out = f'<form method="post" action="/connect/sign-out">{hidden(csrf)}<button class="quiet">Sign out</button></form>'
    return page(
        "My grants",
        f"<p>Signed in as <strong>{escape(user)}</strong>.</p>{table if rows else '<p>You have no grants.</p>'}{out}",
    )


def _schedule(grant: Grant) -> str:
    s = grant.schedule
    if s is None:
        return ""
    when = (
        f"starts next at {date(s.next_due)}"
        if s.next_due
        else escape(s.reason)
        if s.state == "stopped"
        else "never starts again"
    )
    return (
        f"<br>Schedule of {escape(s.workflow)}: <code>{escape(s.cron)}</code> {escape(s.timezone)}, {s.state}; {when}"
    )


def _revoke(grant: Grant, csrf: str) -> str:
    if grant.state not in ("active", "used"):
        return ""
    return (
        f'<form method="post" action="/connect/grants/{escape(grant.id)}/revoke">{hidden(csrf)}<button'
        ' class="quiet">Revoke</button></form>'
    )
