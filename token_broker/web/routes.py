"""`/connect`: sign in by authorization code with PKCE (RFC 7636), consent, see and revoke one's grants."""

from __future__ import annotations

import json
import secrets
import time
from typing import Annotated, Any
from urllib.parse import urlencode

from fastapi import APIRouter, Path, Query, Request, Response
from fastapi.responses import RedirectResponse
from pydantic import ValidationError

from gdi.contracts.grants import GrantRequest
from gdi.contracts.ids import DIGEST, WORKFLOW_NAME, GrantId, is_dataset_id, matches
from gdi.kit.problem import ProblemError
from gdi.kit.web import html_errors, style_sheet
from gdi.oauth.errors import OAuthDenied, OAuthUnavailable
from gdi.visas.visas import Visa
from token_broker.api import B
from token_broker.authentication.callers import UserCaller
from token_broker.broker import Broker
from token_broker.grants.parameters import datasets_of
from token_broker.web import pages, sessions
from token_broker.web.sessions import SESSION

Text = Annotated[str, Query(max_length=4000)]


router = APIRouter(prefix="/connect", route_class=html_errors(pages.problem), include_in_schema=False)


@router.get("/style.css")
async def style() -> Response:
    return style_sheet()


@router.get("")
async def connect(b: B, workflows: Text = "", datasets: Text = "") -> Response:
    """Sends the browser to LS AAI. `workflows` and `datasets` (comma-separated) fill in the consent form afterwards."""
    return await sessions.sign_in(b).start({"workflows": workflows[:1000], "datasets": datasets[:2000]})


@router.get("/start")
async def start(b: B, request: Request, workflow: Text = "", digest: Text = "") -> Response:
    """From the field *Ticket* of Airflow's form: to the user's grants for this workflow, by signing in where needed."""
    _check_whole("This link", workflow, digest)
    if await sessions.session(b, request) is None:
        return await sessions.sign_in(b).start({"start": workflow, "digest": digest})
    return RedirectResponse(_grants_for(b, workflow, digest), status_code=303)


def _check_whole(what: str, workflow: str, digest: str) -> None:
    if not (matches(WORKFLOW_NAME, workflow) and (not digest or matches(DIGEST, digest))):
        raise ProblemError(422, "invalid-request", f"{what} is not whole.", action="Open it from Airflow's form.")


def _grants_for(b: Broker, workflow: str, digest: str) -> str:
    return f"{b.settings.public_url}/connect/grants?{urlencode({'workflow': workflow, 'digest': digest})}"


@router.get("/callback")
async def callback(
    b: B, request: Request, state: Text = "", code: Text = "", error: Text = "", iss: Text = ""
) -> Response:
    """The browser comes back: the code is redeemed here, tokens go to Vault as a pending grant, the browser gets a
    session without any.
    """
    flow = sessions.sign_in(b)
    signed_in = await flow.finish(request, state=state, code="" if error else code, iss=iss)
    pending = await b.grants.keep(signed_in.user, signed_in.tokens)
    kept = signed_in.kept
    query = urlencode({k: v for k, v in kept.items() if v})
    where = f"{b.settings.public_url}/connect/consent?{query}"
    if workflow := kept.get("start"):
        where = _grants_for(b, workflow, kept.get("digest", ""))
    response = RedirectResponse(where, status_code=303)
    claims = {"sub": signed_in.user, "pending": pending, "csrf": secrets.token_urlsafe(24)}
    sessions.put(b, response, SESSION, claims)
    flow.end(response)
    return response


@router.get("/consent")
async def consent_page(b: B, request: Request, workflows: Text = "", datasets: Text = "") -> Response:
    session = await _session(b, request)
    chosen = {d for d in _split(datasets) if is_dataset_id(d)}
    try:
        access = await b.refresher.access(str(session["pending"]))
        passport = await b.visas.passport(await b.oidc.userinfo(access.token), str(session["sub"]))
    except (OAuthDenied, OAuthUnavailable):
        raise ProblemError(
            503, "provider-unavailable", "LS AAI does not tell your access rights.", action="Try again in a minute."
        ) from None
    have = {v.value for v in passport.visas if isinstance(passport.access(v.value), Visa)}
    boxes = [
        (d, d in chosen or not chosen, "" if d in have else "(you have no access to it now)")
        for d in sorted(chosen | have)[:1000]
    ]
    return pages.consent(str(session["sub"]), str(session["csrf"]), workflows, boxes, b.settings.max_grant_days)


@router.post("/consent")
async def consent(b: B, request: Request) -> Response:
    session, form = await sessions.checked_form(b, request)
    first = {key: values[0] for key, values in form.items() if values}
    try:
        grant_request = GrantRequest.model_validate(
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
    await b.grants.consent(str(session["pending"]), user, grant_request, actor=f"user:{user}")
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
async def my_grants(b: B, request: Request, workflow: Text = "", digest: Text = "") -> Response:
    """All grants; with `workflow`, as the link of Airflow's form has it, those that cover it, to make a ticket with."""
    session = await _session(b, request)
    found = await b.grants.list(str(session["sub"]))
    if workflow:
        found = [one for one in found if workflow in one.workflows and one.state == "active"]
        return pages.start(str(session["sub"]), str(session["csrf"]), found, workflow, digest)
    return pages.grants(str(session["sub"]), str(session["csrf"]), found)


@router.post("/grants/{grant}/ticket")
async def ticket(b: B, request: Request, grant: Annotated[GrantId, Path()]) -> Response:
    """A ticket for Airflow's form, shown once, in the page's body only: no URL and no history has it."""
    session, form = await sessions.checked_form(b, request)
    user = UserCaller(str(session["sub"]), "connect")
    b.limits.ticket(user)
    workflow, digest = (form.get(name, [""])[0] for name in ("workflow", "digest"))
    _check_whole("The form", workflow, digest)
    datasets = datasets_of({"datasets": form.get("datasets", [])})
    made = await b.tickets.create_for_form(grant, user.sub, workflow, datasets, digest, actor=f"user:{user.sub}")
    return pages.ticket(made, workflow, datasets)


@router.get("/grants/{grant}/revoke")
async def ask_revoke(b: B, request: Request, grant: Annotated[GrantId, Path()]) -> Response:
    """What would end; nothing does yet."""
    session = await _session(b, request)
    found = await b.grants.get(grant, str(session["sub"]))
    return pages.revoke(str(session["csrf"]), found, await b.grants.open_runs(grant))


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
    response = pages.signed_out()
    await sessions.sign_out(b, session, response)
    return response


async def _session(b: Broker, request: Request) -> dict[str, Any]:
    session = await sessions.session(b, request)
    if session is None:
        raise ProblemError(
            401,
            "unauthenticated",
            "You are not signed in, or your session has ended.",
            action="Start again to sign in.",
        )
    return session


def _split(text: str) -> list[str]:
    return [part for part in (p.strip() for p in text.replace("\n", ",").split(",")) if part]
