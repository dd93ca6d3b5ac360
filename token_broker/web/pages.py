"""The pages' HTML: no script, no inline style; every value is escaped where it is put in."""

from __future__ import annotations

import time
from collections.abc import Iterable
from html import escape

from fastapi.responses import HTMLResponse

from broker_client.models import Grant

CSP = "default-src 'none'; style-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
HEADERS = {"Content-Security-Policy": CSP, "X-Frame-Options": "DENY", "Referrer-Policy": "no-referrer"}
STYLE = """
:root { color-scheme: light dark; --line: #8886; --accent: #2a6fb5 }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 46rem; margin: 3rem auto; padding: 0 1rem }
h1 { font-size: 1.5rem } label { display: block; margin: .4rem 0 } fieldset { border: 1px solid var(--line); border-radius: .5rem; margin: 1rem 0 }
input[type=text], input[type=number], select { font: inherit; width: 100%; box-sizing: border-box; padding: .4rem }
button { font: inherit; padding: .5rem 1rem; border: 0; border-radius: .4rem; background: var(--accent); color: white; cursor: pointer }
button.quiet { background: transparent; color: inherit; border: 1px solid var(--line) }
button:focus-visible, a:focus-visible, input:focus-visible { outline: 3px solid var(--accent); outline-offset: 2px }
table { border-collapse: collapse; width: 100% } td, th { text-align: left; padding: .4rem; border-bottom: 1px solid var(--line); vertical-align: top }
code { overflow-wrap: anywhere } form.inline { display: inline }
"""


def page(title: str, body: str, *, status: int = 200) -> HTMLResponse:
    """`body` is HTML made by the functions below."""
    text = (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>{escape(title)}</title>'
        f'<link rel="stylesheet" href="/connect/style.css"></head><body><main><h1>{escape(title)}</h1>{body}</main></body></html>'
    )
    return HTMLResponse(text, status_code=status, headers=HEADERS)


def hidden(csrf: str) -> str:
    return f'<input type="hidden" name="csrf" value="{escape(csrf)}">'


def problem(detail: str, action: str, status: int) -> HTMLResponse:
    return page("That did not work", f'<p>{escape(detail)}</p><p>{escape(action)}</p><p><a href="/connect">Start again</a></p>', status=status)


def consent(user: str, csrf: str, workflows: str, datasets: Iterable[tuple[str, bool, str]], max_days: float) -> HTMLResponse:
    """`datasets`: id, whether ticked, and what to say of it."""
    boxes = "".join(
        f'<label><input type="checkbox" name="datasets" value="{escape(d)}"{" checked" if ticked else ""}> <code>{escape(d)}</code> {escape(note)}</label>'
        for d, ticked, note in datasets
    )
    return page(
        "Allow analyses on your behalf",
        f"<p>You are signed in as <strong>{escape(user)}</strong>. You allow this federation to run the named workflows on the chosen datasets with your "
        f"access rights, until the grant ends or you revoke it. Only checked results leave a node.</p>"
        f'<form method="post" action="/connect/consent">{hidden(csrf)}'
        f'<fieldset><legend>Workflows</legend><label>Names, separated by commas <input type="text" name="workflows" required maxlength="2000" '
        f'value="{escape(workflows)}"></label></fieldset>'
        f"<fieldset><legend>Datasets</legend>{boxes or '<p>You have no access to any dataset yet.</p>'}</fieldset>"
        f'<fieldset><legend>How long</legend><label>Days <input type="number" name="days" value="30" min="1" max="{max_days:g}" required></label>'
        f'<label>Good for <select name="mode"><option value="standing">any number of runs</option><option value="once">one run</option></select></label>'
        f'<label>A name for it <input type="text" name="label" maxlength="255"></label></fieldset>'
        f'<button>Allow</button></form> <form class="inline" method="post" action="/connect/discard">{hidden(csrf)}<button class="quiet">Cancel</button></form>'
        f'<p><a href="/connect/grants">My grants</a></p>',
    )


def grants(user: str, csrf: str, found: list[Grant]) -> HTMLResponse:
    rows = "".join(
        f"<tr><td><code>{escape(g.id)}</code><br>{escape(g.label)}</td><td>{escape(', '.join(g.workflows))}</td><td>{escape(', '.join(g.datasets))}</td>"
        f"<td>{escape(g.state)}<br>{escape(g.detail)}</td><td>{_date(g.expires_at)}</td><td>{_revoke(g, csrf)}</td></tr>"
        for g in found
    )
    table = f"<table><thead><tr><th>Grant</th><th>Workflows</th><th>Datasets</th><th>State</th><th>Ends</th><th></th></tr></thead><tbody>{rows}</tbody></table>"
    out = f'<form method="post" action="/connect/sign-out">{hidden(csrf)}<button class="quiet">Sign out</button></form>'
    return page("My grants", f"<p>Signed in as <strong>{escape(user)}</strong>.</p>{table if rows else '<p>You have no grants.</p>'}{out}")


def _revoke(grant: Grant, csrf: str) -> str:
    if grant.state not in ("active", "used"):
        return ""
    return f'<form method="post" action="/connect/grants/{escape(grant.id)}/revoke">{hidden(csrf)}<button class="quiet">Revoke</button></form>'


def _date(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(seconds))
