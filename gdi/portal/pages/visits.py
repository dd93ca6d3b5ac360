"""What every page has: who visits, in which language, and how an error is shown to a person."""

from __future__ import annotations

import re
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import Depends, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, RedirectResponse
from fastapi.routing import APIRoute

from gdi.kit.problem import ProblemError
from gdi.kit.web import HEADERS, Pages
from gdi.portal.callers import D, Visitor
from gdi.portal.door import Door
from gdi.portal.pages import assets
from gdi.portal.pages.sign_in import PortalSignIn, session_over
from gdi.portal.pages.texts import LANGUAGES, Texts, choose

LANGUAGE = "gdi_language"  # the cookie with the language that a person chose
BACK = re.compile(r"/(?!/)[A-Za-z0-9/_.~-]{0,200}(\?[A-Za-z0-9=&_.%~-]{0,500})?")
CSP = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; form-action 'self';"
    " frame-ancestors 'none'; base-uri 'none'; require-trusted-types-for 'script'; trusted-types gdi"
)
PAGE_HEADERS = {**HEADERS, "Content-Security-Policy": CSP, "Cache-Control": "no-store"}
PAGES = Pages("gdi.portal.pages", style="", languages=LANGUAGES, version=assets.VERSION)


@dataclass(frozen=True)
class Visit:
    """A signed-in person's request. `form`: of a POST, whose origin and CSRF token were checked."""

    door: Door
    who: Visitor
    texts: Texts
    csrf: str
    path: str
    form: dict[str, list[str]]

    def page(self, template: str, *, status: int = 200, section: str = "", **values: object) -> HTMLResponse:
        person: dict[str, object] = {
            "user": self.who.caller.sub,
            "csrf": self.csrf,
            "section": section,
            "path": self.path,
        }
        person |= {"member": bool(self.who.caller.committees)}
        return PAGES.render(template, status=status, headers=PAGE_HEADERS, t=self.texts, **person, **values)

    def first(self, name: str) -> str:
        return (self.form.get(name) or [""])[0].strip()


def texts_for(request: Request) -> Texts:
    return choose(request.cookies.get(LANGUAGE), request.headers.get("accept-language", ""))


def public_page(
    request: Request, template: str, *, status: int = 200, user: str = "", csrf: str = "", **values: object
) -> HTMLResponse:
    """A page for somebody who is not signed in, or whom nobody has asked about: `user` is then the session's."""
    person = {"user": user, "csrf": csrf, "section": "", "path": page_of(request), "member": False}
    return PAGES.render(template, status=status, headers=PAGE_HEADERS, t=texts_for(request), **person, **values)


def page_of(request: Request) -> str:
    """Where the link to the other language leads back to: of a form that was sent, the page above."""
    path = request.url.path
    return path if request.method == "GET" else path.rpartition("/")[0] or "/"


def welcome(request: Request, status: int = 200) -> HTMLResponse:
    """What this is and where to go; afterwards the person comes back to where they wanted to be."""
    back = request.url.path if request.method == "GET" else "/"
    return public_page(request, "welcome.html", status=status, back=back if BACK.fullmatch(back) else "/")


def see(path: str) -> Response:
    """Go and look there."""
    return RedirectResponse(path, status_code=303)


async def sign_in_of(request: Request) -> PortalSignIn:
    found: PortalSignIn = request.app.state.sign_in
    return found


S = Annotated[PortalSignIn, Depends(sign_in_of)]


async def visit(request: Request, d: D, s: S) -> Visit:
    form: dict[str, list[str]] = {}
    if request.method == "POST":
        claims, form = await s.checked_form(request)
    else:
        found = await s.session(request)
        if found is None:
            raise session_over()
        claims = found
    token = await s.token(claims)
    caller = await d.broker.caller(token)
    if caller.sub != claims["sub"]:
        raise session_over()
    d.limits.request(caller.sub)
    return Visit(d, Visitor(caller, token), texts_for(request), str(claims["csrf"]), page_of(request), form)


P = Annotated[Visit, Depends(visit)]


class PageRoute(APIRoute):
    """A person reads the errors: as a page in their language; without a session: what this is."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handler = super().get_route_handler()

        async def answer(request: Request) -> Response:
            try:
                return await handler(request)
            except ProblemError as error:
                problem = error.problem
                if problem.status == 401:
                    return welcome(request, 401)
                what, todo, words = texts_for(request).problem(error.slug, problem.detail, problem.action)
                return await problem_page(request, what, todo, problem.status, words)
            except RequestValidationError:
                return await problem_page(request, texts_for(request)("problem.address"), "", 404)

        return answer


async def problem_page(request: Request, detail: str, action: str, status: int, words: str = "") -> HTMLResponse:
    """`words`: the API's own, in English, where they say more. Who is signed in keeps the way on."""
    try:
        claims = await (await sign_in_of(request)).session(request) or {}
    except ProblemError:  # of the database
        claims = {}
    person = {"user": str(claims.get("sub", "")), "csrf": str(claims.get("csrf", ""))}
    return public_page(request, "problem.html", status=status, detail=detail, action=action, words=words, **person)
