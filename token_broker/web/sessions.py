"""Cookies signed with the broker's key: the sign-in under way (state, PKCE verifier) and the session (who, CSRF token). No user token is in them."""

from __future__ import annotations

import hmac
from typing import Any
from urllib.parse import urlsplit

from fastapi import Request, Response

from gdi_common.jose import TokenError, verify
from gdi_common.problem import ProblemError
from token_broker.broker import Broker

SIGN_IN, SESSION = "gdi_signin", "gdi_session"
LIFETIMES = {SIGN_IN: 600, SESSION: 900}


def put(b: Broker, response: Response, name: str, claims: dict[str, Any]) -> None:
    url = b.settings.public_url
    value = b.key.sign({"iss": url, "aud": f"{url}/connect", **claims}, lifetime=LIFETIMES[name], typ=f"{name}+jwt")
    response.set_cookie(name, value, max_age=LIFETIMES[name], path="/connect", httponly=True, samesite="lax", secure=url.startswith("https"))


def get(b: Broker, request: Request, name: str) -> dict[str, Any] | None:
    value = request.cookies.get(name)
    if not value or len(value) > 8192:
        return None
    url = b.settings.public_url
    try:
        return verify(value, [b.key.jwk()], issuer=url, audience=f"{url}/connect", typ=f"{name}+jwt", leeway=0)
    except TokenError:
        return None


def end(response: Response, name: str) -> None:
    response.delete_cookie(name, path="/connect")


async def checked_form(b: Broker, request: Request) -> tuple[dict[str, Any], dict[str, list[str]]]:
    """The session and the form of a POST that came from our own page: same origin, and the session's CSRF token in the form. 403 otherwise."""
    session = get(b, request, SESSION)
    origin = request.headers.get("origin")
    async with request.form(max_files=0, max_fields=1100, max_part_size=64 * 1024) as form:
        fields = {key: [v for v in form.getlist(key) if isinstance(v, str)] for key in form}
    given = (fields.get("csrf") or [""])[0]
    same = urlsplit(b.settings.public_url)
    foreign = origin is not None and origin != f"{same.scheme}://{same.netloc}"
    if session is None or foreign or not hmac.compare_digest(given.encode("utf-8", "replace"), str(session.get("csrf", "")).encode()):
        raise ProblemError(403, "forbidden", "Your session has ended, or this form did not come from this page.", action="Sign in again.")
    return session, fields
