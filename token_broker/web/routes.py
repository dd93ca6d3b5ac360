"""`/connect`: sign in by authorization code with PKCE (RFC 7636), consent, see and revoke one's grants."""

from __future__ import annotations

import hmac
import json
import secrets
import time
from typing import Annotated, Any
from urllib.parse import urlencode

from fastapi import APIRouter, Path, Query, Request, Response
from fastapi.responses import RedirectResponse
from pydantic import ValidationError

from gdi.contracts.grants import GrantRequest
from gdi.contracts.ids import GrantId
from gdi.kit.problem import ProblemError
from gdi.kit.web import STYLE, html_errors
from gdi.oauth.client import SCOPE, OidcDenied, OidcUnavailable, TokenSet
from token_broker.api import B
from token_broker.broker import Broker
from token_broker.tokens.token_refresher import provider_away
from token_broker.visas.visas import Visa
from token_broker.web import pages, sessions
from token_broker.web.sessions import SESSION, SIGN_IN

Text = Annotated[str, Query(max_length=4000)]


router = APIRouter(prefix="/connect", route_class=html_errors(pages.problem), include_in_schema=False)


@router.get("/style.css")
async def style() -> Response:
    return Response(STYLE, media_type="text/css", headers={"Cache-Control": "max-age=3600"})


@router.get("")
async def connect(b: B, workflows: Text = "", datasets: Text = "") -> Response:
    """Sends the browser to LS AAI. `workflows` and `datasets` (comma-separated) fill in the consent form afterwards."""
    state, verifier = secrets.token_urlsafe(24), secrets.token_urlsafe(48)
    try:
        away = await b.oidc.sign_in_url(redirect_uri=_callback(b), scope=SCOPE, state=state, verifier=verifier)
    except OidcUnavailable as error:
        raise provider_away(error) from None
    response = RedirectResponse(away, status_code=303)
    sessions.put(
        b,
        response,
        SIGN_IN,
        {"state": state, "verifier": verifier, "workflows": workflows[:1000], "datasets": datasets[:2000]},
    )
    return response


@router.get("/callback")
async def callback(
    b: B, request: Request, state: Text = "", code: Text = "", error: Text = "", iss: Text = ""
) -> Response:
    """The browser comes back: the code is redeemed here, tokens go to Vault as a pending grant, the browser gets a
    session without any.
    """
    started = sessions.get(b, request, SIGN_IN)
    if (
        started is None
        or not hmac.compare_digest(state.encode("utf-8", "replace"), str(started["state"]).encode())
        or (iss and iss != b.oidc.issuer)
    ):
        raise ProblemError(
            403,
            "forbidden",
            "This sign-in was not started in this browser, or it took too long.",
            action="Start again.",
        )
    if error or not code:
        raise ProblemError(
            403,
            "sign-in-refused",
            "LS AAI did not sign you in.",
            action="Start again, and allow the access that is asked for.",
        )
    tokens, user = await _redeem(b, code, str(started["verifier"]))
    pending = await b.grants.keep(user, tokens)
    query = urlencode({k: started[k] for k in ("workflows", "datasets") if started.get(k)})
    response = RedirectResponse(f"{b.settings.public_url}/connect/consent?{query}", status_code=303)
    sessions.put(b, response, SESSION, {"sub": user, "pending": pending, "csrf": secrets.token_urlsafe(24)})
    sessions.end(response, SIGN_IN)
    return response


async def _redeem(b: Broker, code: str, verifier: str) -> tuple[TokenSet, str]:
    try:
        tokens = await b.oidc.code(code, verifier, _callback(b))
        user = (await b.oidc.userinfo(tokens.access_token)).get("sub")
    except OidcDenied:
        raise ProblemError(
            403, "sign-in-refused", "LS AAI did not accept the sign-in.", action="Start again."
        ) from None
    except OidcUnavailable as error:
        raise provider_away(error) from None
    if not isinstance(user, str) or not 0 < len(user) <= 255:
        raise ProblemError(502, "bad-answer", "LS AAI did not say who you are.", action="Try again later.")
    return tokens, user


@router.get("/consent")
async def consent_page(b: B, request: Request, workflows: Text = "", datasets: Text = "") -> Response:
    session = _session(b, request)
    asked = {d for d in _split(datasets) if len(d) <= 128}
    try:
        access = await b.refresher.access(str(session["pending"]))
        passport = await b.visas.passport(await b.oidc.userinfo(access.token), str(session["sub"]))
    except (OidcDenied, OidcUnavailable):
        raise ProblemError(
            503, "provider-unavailable", "LS AAI does not tell your access rights.", action="Try again in a minute."
        ) from None
    have = {v.value for v in passport.visas if isinstance(passport.access(v.value), Visa)}
    boxes = [
        (d, d in asked or not asked, "" if d in have else "(you have no access to it now)")
        for d in sorted(asked | have)[:1000]
    ]
    return pages.consent(str(session["sub"]), str(session["csrf"]), workflows, boxes, b.settings.max_grant_days)


@router.post("/consent")
async def consent(b: B, request: Request) -> Response:
    session, form = await sessions.checked_form(b, request)
    first = {key: values[0] for key, values in form.items() if values}
    try:
        wanted = GrantRequest.model_validate(
            {
                "workflows": _split(first.get("workflows", "")),
                "datasets": form.get("datasets", []),
                "expires_at": time.time() + float(first.get("days", "0")) * 86400 - 1,
                "mode": first.get("mode", ""),
                "label": first.get("label", ""),
                "schedule": _schedule(first, form.get("datasets", [])) if first.get("cron", "").strip() else None,
            }
        )
    except (ValidationError, ValueError, RecursionError):
        raise ProblemError(
            422,
            "invalid-request",
            "Name at least one workflow and one dataset, and a number of days; to start by itself, one workflow, and"
            " its parameters as a JSON object.",
            action="Go back and correct the form.",
        ) from None
    user = str(session["sub"])
    await b.grants.consent(str(session["pending"]), user, wanted, actor=f"user:{user}")
    return RedirectResponse(f"{b.settings.public_url}/connect/grants", status_code=303)


def _schedule(form: dict[str, str], datasets: list[str]) -> dict[str, Any]:
    """ValueError where it is not for one workflow, or its parameters are no JSON object."""
    (workflow,) = _split(form.get("workflows", ""))
    parameters = json.loads(form.get("parameters", "").strip() or "{}", parse_constant=_refuse)
    if not isinstance(parameters, dict):
        raise ValueError("no object")
    return {
        "workflow": workflow,
        "parameters": {**parameters, "datasets": datasets},
        **{key: form.get(key, "").strip() for key in ("cron", "timezone", "catch_up")},
    }


def _refuse(constant: str) -> None:
    raise ValueError(constant)


@router.post("/discard")
async def discard(b: B, request: Request) -> Response:
    session, _ = await sessions.checked_form(b, request)
    await b.grants.discard(str(session["pending"]), str(session["sub"]))
    return RedirectResponse(f"{b.settings.public_url}/connect/grants", status_code=303)


@router.get("/grants")
async def my_grants(b: B, request: Request) -> Response:
    session = _session(b, request)
    return pages.grants(str(session["sub"]), str(session["csrf"]), await b.grants.list(str(session["sub"])))


@router.post("/grants/{grant}/revoke")
async def revoke(b: B, request: Request, grant: Annotated[GrantId, Path()]) -> Response:
    session, _ = await sessions.checked_form(b, request)
    user = str(session["sub"])
    await b.grants.revoke(grant, user, actor=f"user:{user}")
    return RedirectResponse(f"{b.settings.public_url}/connect/grants", status_code=303)


@router.post("/sign-out")
async def sign_out(b: B, request: Request) -> Response:
    session, _ = await sessions.checked_form(b, request)
    await b.grants.discard(str(session["pending"]), str(session["sub"]))
    response = pages.page("Signed out", '<p>You are signed out here.</p><p><a href="/connect">Sign in</a></p>')
    sessions.end(response, SESSION)
    return response


def _session(b: Broker, request: Request) -> dict[str, Any]:
    session = sessions.get(b, request, SESSION)
    if session is None:
        raise ProblemError(
            401,
            "unauthenticated",
            "You are not signed in, or your session has ended.",
            action="Start again to sign in.",
        )
    return session


def _callback(b: Broker) -> str:
    return f"{b.settings.public_url}/connect/callback"


def _split(text: str) -> list[str]:
    return [part for part in (p.strip() for p in text.replace("\n", ",").split(",")) if part]
