"""The stand-in's pages: what each template in `templates/` is given. They load nothing and are framed by nobody."""

from __future__ import annotations

from typing import Any

from fastapi.responses import HTMLResponse

from gdi.kit.web import Pages
from gdi.local_federation.aai import oauth

PAGES = Pages("gdi.local_federation.aai")


def _headers(form_action: str = "") -> dict[str, str]:
    """`form_action`: a further origin to which the form's answer may redirect."""
    policy = (
        f"default-src 'none'; style-src 'unsafe-inline'; form-action 'self' {form_action}; frame-ancestors 'none';"
        " base-uri 'none'"
    )
    return {
        "Content-Security-Policy": policy.replace(" ;", ";"),
        "Referrer-Policy": "no-referrer",
        "X-Content-Type-Options": "nosniff",
        **oauth.NO_STORE,
    }


def login(client: str, login_id: str, origin: str, wrong: bool) -> HTMLResponse:
    """The form of one login, whose answer redirects to `origin`."""
    status, headers = (401 if wrong else 200), _headers(origin)
    return PAGES.render("login.html", status=status, headers=headers, client=client, login=login_id, wrong=wrong)


def refused(why: str) -> HTMLResponse:
    what = (why, "Go back to where you came from and start again.")
    return PAGES.render(
        "sentences.html", status=400, headers=_headers(), title="This request cannot be served", sentences=what
    )


def device(user_code: str, message: str = "", status: int = 200) -> HTMLResponse:
    """The form where a user lets a device in (RFC 8628 §3.3)."""
    return PAGES.render("device.html", status=status, headers=_headers(), user_code=user_code, message=message)


def device_done() -> HTMLResponse:
    what = ("You may close this page and go back to your device.",)
    return PAGES.render("sentences.html", headers=_headers(), title="Done", sentences=what)


def sentences(title: str, *what: str) -> HTMLResponse:
    return PAGES.render("sentences.html", headers=_headers(), title=title, sentences=what)


def application(datasets: list[tuple[str, str]], items: str, message: str, status: int) -> HTMLResponse:
    """The application for these datasets (title, id), prefilled but for the purpose."""
    given: dict[str, Any] = {"datasets": datasets, "items": items, "message": message}
    return PAGES.render("application.html", status=status, headers=_headers(), **given)


def handler_sign_in(message: str = "", status: int = 200) -> HTMLResponse:
    return PAGES.render("handler.html", status=status, headers=_headers(), message=message)


def handler_list(
    applications: list[dict[str, Any]], commands: dict[str, list[str]], secret: str, message: str
) -> HTMLResponse:
    """What a handler may decide: `commands` by state."""
    given: dict[str, Any] = {"applications": applications, "commands": commands, "secret": secret, "message": message}
    return PAGES.render("handler_list.html", headers=_headers(), **given)
