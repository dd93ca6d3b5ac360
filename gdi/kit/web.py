"""What the broker's and the gateway's pages share: one look, no script, signed cookies, forms that only our own page
can send.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable, Coroutine, Mapping
from importlib.resources import files
from typing import Any
from urllib.parse import quote, urlsplit

from fastapi import Request, Response
from fastapi.responses import HTMLResponse
from fastapi.routing import APIRoute
from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined

from gdi.kit.jose import SigningKey, TokenError, verify
from gdi.kit.problem import ProblemError
from gdi.kit.times import date
from gdi.kit.used_ids import UsedIds

CSP = "default-src 'none'; style-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
# `same-origin`, not `no-referrer`: with that a browser sends `Origin: null` with our own forms (Fetch, "append a
# request Origin header").
HEADERS = {"Content-Security-Policy": CSP, "X-Frame-Options": "DENY", "Referrer-Policy": "same-origin"}
SESSION = "session"  # the kind of ids of sessions that were ended
STYLE = files("gdi.kit").joinpath("templates", "style.css").read_text()


def segment(text: str) -> str:
    """`text` as one part of a URL's path or query."""
    return quote(str(text), safe="")


def accepts(header: str, media_type: str) -> bool:
    """Whether an `Accept` header takes `media_type`; no header takes all (RFC 9110 §12.5.1). The most exact range that
    fits counts, and `q=0` refuses.
    """
    main = media_type.partition("/")[0]
    exactness = {"*/*": 1, f"{main}/*": 2, media_type: 3}
    best, taken = 0, not header.strip()
    for part in header[:4000].split(","):
        name, *parameters = (p.strip().lower() for p in part.split(";"))
        rank = exactness.get(name, 0)
        if rank > best:
            weights = [p.removeprefix("q=").strip() for p in parameters if p.startswith("q=")]
            best, taken = rank, not (weights and weights[0].rstrip("0") in ("", "0."))
    return taken


class Pages:
    """The pages of one package: the templates in its `templates/`, over those of the kit. Every value is escaped, a
    missing one is an error, and no script has a place. `style`: the path of the style sheet; `more`: what all of its
    templates know.
    """

    def __init__(self, package: str, *, style: str = "", **more: object) -> None:
        loader = ChoiceLoader([PackageLoader(package), PackageLoader("gdi.kit")])
        self._environment = Environment(
            loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
        )
        self._environment.globals.update(more, style=style)
        self._environment.filters.update(date=date, segment=segment)

    def render(
        self, template: str, *, status: int = 200, headers: Mapping[str, str] = HEADERS, **values: object
    ) -> HTMLResponse:
        """The page that `template` makes of `values`."""
        text = self._environment.get_template(template).render(values)
        return HTMLResponse(text, status_code=status, headers=dict(headers))

    def message(
        self, title: str, *sentences: str, link: tuple[str, str] | None = None, status: int = 200
    ) -> HTMLResponse:
        """A page that only says something. `link`: address and text."""
        return self.render("message.html", status=status, title=title, sentences=sentences, link=link)


def style_sheet() -> Response:
    """The one style sheet, for the path that the pages name."""
    return Response(STYLE, media_type="text/css", headers={"Cache-Control": "max-age=3600"})


def html_errors(problem: Callable[[str, str, int], Response]) -> type[APIRoute]:
    """A route class for pages: a person reads these, so ProblemErrors are answered as `problem(detail, action,
    status)`.
    """

    class HtmlErrors(APIRoute):
        def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
            handler = super().get_route_handler()

            async def answer(request: Request) -> Response:
                try:
                    return await handler(request)
                except ProblemError as error:
                    return problem(error.problem.detail, error.problem.action, error.problem.status)

            return answer

    return HtmlErrors


class Cookies:
    """Cookies signed with our own key, for the pages below `path`; `lifetimes` in seconds, by name. What is in them can
    be read by the browser's user. `ended`: sessions whose user signed out.
    """

    def __init__(
        self, key: SigningKey, public_url: str, path: str, lifetimes: Mapping[str, int], ended: UsedIds
    ) -> None:
        self._key, self._url, self._path, self._lifetimes = key, public_url, path, lifetimes
        self._ended = ended

    def put(self, response: Response, name: str, claims: dict[str, Any]) -> None:
        life = self._lifetimes[name]
        value = self._key.sign(
            {"iss": self._url, "aud": self._url + self._path, **claims}, lifetime=life, typ=f"{name}+jwt"
        )
        response.set_cookie(
            name,
            value,
            max_age=life,
            path=self._path,
            httponly=True,
            samesite="lax",
            secure=self._url.startswith("https"),
        )

    def get(self, request: Request, name: str) -> dict[str, Any] | None:
        """The cookie's claims; None where it is missing, ended or not ours."""
        value = request.cookies.get(name)
        if not value or len(value) > 8192:
            return None
        try:
            return verify(
                value, [self._key.jwk()], issuer=self._url, audience=self._url + self._path, typ=f"{name}+jwt", leeway=0
            )
        except TokenError:
            return None

    async def session(self, request: Request, name: str) -> dict[str, Any] | None:
        """As `get`, for a cookie that is a session: None too where its user signed out, whoever still has a copy."""
        claims = self.get(request, name)
        return None if claims is None or await self._ended.has(SESSION, str(claims["jti"])) else claims

    def end(self, response: Response, name: str) -> None:
        response.delete_cookie(name, path=self._path)

    async def sign_out(self, claims: Mapping[str, Any], response: Response, name: str) -> None:
        """Ends the session here, for every copy of its cookie, and removes the cookie."""
        await self._ended.add(SESSION, str(claims["jti"]), float(claims["exp"]))
        self.end(response, name)

    async def checked_form(self, request: Request, session: str) -> tuple[dict[str, Any], dict[str, list[str]]]:
        """The session and the form of a POST that came from our own page: same origin, and the session's CSRF token in
        the form. 403 otherwise.
        """
        claims = await self.session(request, session)
        origin = request.headers.get("origin")
        async with request.form(max_files=0, max_fields=1100, max_part_size=64 * 1024) as form:
            fields = {key: [v for v in form.getlist(key) if isinstance(v, str)] for key in form}
        given = (fields.get("csrf") or [""])[0]
        same = urlsplit(self._url)
        foreign = origin is not None and origin != f"{same.scheme}://{same.netloc}"
        if (
            claims is None
            or foreign
            or not hmac.compare_digest(given.encode("utf-8", "replace"), str(claims.get("csrf", "")).encode())
        ):
            raise ProblemError(
                403,
                "forbidden",
                "Your session has ended, or this form did not come from this page.",
                action="Sign in again.",
            )
        return claims, fields
