"""REMS's doors for applications: the API with key and user, and the two pages that people need, which ask for name and
password each time.
"""

from __future__ import annotations

import secrets
import time
from typing import Annotated, TypeVar

from fastapi import APIRouter, Query, Request
from fastapi.responses import HTMLResponse, JSONResponse, PlainTextResponse, RedirectResponse, Response
from pydantic import BaseModel, ValidationError

from gdi.local_federation.aai import oauth, pages
from gdi.local_federation.aai.applications import (
    FIELD,
    FORM,
    HANDLING,
    MAX_TEXT,
    Applications,
    CommandBody,
    CreateBody,
    FieldValue,
    RefusedCommand,
)
from gdi.local_federation.aai.authorize import sign_in
from gdi.local_federation.aai.oauth import same
from gdi.local_federation.aai.tokens import Issuer

Model = TypeVar("Model", bound=BaseModel)
ACTION_LIFE = 600.0  # seconds for which a handler's list of buttons serves
MAX_LISTS = 1000
Resources = Annotated[list[str], Query(max_length=50)]


def api(applications: Applications) -> APIRouter:
    """`/rems/api/…`, as REMS answers. The key names nobody: `x-rems-user-id` does."""
    router = APIRouter(prefix="/rems/api")

    def user_of(request: Request) -> str | None:
        key, user = request.headers.get("x-rems-api-key", ""), request.headers.get("x-rems-user-id", "")
        return user if same(key, applications.rems.config.rems_api_key.get_secret_value()) and user else None

    def unauthorized() -> Response:
        return PlainTextResponse("unauthorized", 401)

    @router.get("/catalogue")
    async def catalogue(request: Request) -> Response:
        if user_of(request) is None:
            return unauthorized()
        return JSONResponse([applications.shown_item(n) for n in applications.numbers()])

    @router.get("/catalogue-items")
    async def items(request: Request, resource: Annotated[str | None, Query(max_length=300)] = None) -> Response:
        if user_of(request) is None:
            return unauthorized()
        return JSONResponse([applications.shown_item(n) for n in applications.numbers(resource)])

    @router.get("/catalogue-items/{number}")
    async def item(request: Request, number: int) -> Response:
        if user_of(request) is None:
            return unauthorized()
        if applications.item(number) is None:
            return JSONResponse({"error": "not found"}, 404)
        return JSONResponse(applications.shown_item(number))

    @router.get("/my-applications")
    async def own(request: Request) -> Response:
        user = user_of(request)
        return unauthorized() if user is None else JSONResponse(applications.listing(user, own=True))

    @router.get("/applications")
    async def listing(request: Request) -> Response:
        user = user_of(request)
        return unauthorized() if user is None else JSONResponse(applications.listing(user))

    @router.post("/applications/create")
    async def create(request: Request) -> Response:
        user = user_of(request)
        if user is None:
            return unauthorized()
        body = await _body(request, CreateBody)
        if isinstance(body, Response):
            return body
        try:
            number = applications.create(user, body.items)
        except RefusedCommand as refused:
            return _refused(refused)
        return JSONResponse({"success": True, "application-id": number})

    @router.get("/applications/{number}")
    async def get(request: Request, number: int) -> Response:
        user = user_of(request)
        if user is None:
            return unauthorized()
        found = applications.get(user, number)
        return JSONResponse({"error": "not found"}, 404) if found is None else JSONResponse(found)

    @router.post("/applications/{name}")
    async def command(request: Request, name: str) -> Response:
        user = user_of(request)
        if user is None:
            return unauthorized()
        if name not in ("save-draft", "submit", *HANDLING):
            return JSONResponse({"error": "not found"}, 404)
        body = await _body(request, CommandBody)
        if isinstance(body, Response):
            return body
        try:
            applications.command(name, user, body)
        except RefusedCommand as refused:
            return _refused(refused)
        return JSONResponse({"success": True})

    return router


def site(applications: Applications, issuer: Issuer) -> APIRouter:
    """`/rems/apply-for?resource=…` (REMS's docs/linking.md) with the application that it leads to, and `/rems/actions`,
    where handlers decide.
    """
    router = APIRouter(prefix="/rems", include_in_schema=False)

    @router.get("/apply-for")
    async def apply_for(resource: Resources) -> Response:
        found = [applications.numbers(r) for r in resource]
        if not all(found):
            return PlainTextResponse("Resource not found", 404)
        return RedirectResponse(f"application?items={','.join(str(n[0]) for n in found)}", 302)

    @router.get("/application")
    async def form(items: Annotated[str, Query(max_length=400)]) -> Response:
        chosen = _chosen(applications, items)
        if chosen is None:
            return PlainTextResponse("not found", 404)
        return _form(applications, chosen)

    @router.post("/application")
    async def send(request: Request) -> Response:
        fields = await oauth.form(request)
        chosen, purpose = _chosen(applications, fields.get("items", "")), fields.get("purpose", "").strip()
        if chosen is None:
            return PlainTextResponse("not found", 404)
        user = sign_in(issuer, fields.get("username", ""), fields.get("password", ""))
        if user is None:
            return _form(applications, chosen, "User name or password is wrong.", 401)
        if not purpose or len(purpose) > MAX_TEXT:
            return _form(applications, chosen, f"Say in 1 to {MAX_TEXT} characters what you need the data for.", 422)
        number = applications.create(user.sub, chosen)
        answer = FieldValue(form=FORM, field=FIELD, value=purpose)
        saved = {"application-id": number, "field-values": [answer.model_dump()]}
        applications.command("save-draft", user.sub, CommandBody.model_validate(saved))
        applications.command("submit", user.sub, CommandBody.model_validate({"application-id": number}))
        return pages.sentences(
            f"Application 2026/{number} is sent",
            "The access committee of these datasets decides. When it approved, start your analysis again: you need not"
            " sign in anew.",
        )

    @router.get("/actions")
    async def ask() -> Response:
        return pages.handler_sign_in()

    @router.post("/actions")
    async def actions(request: Request) -> Response:
        fields = await oauth.form(request)
        user = sign_in(issuer, fields.get("username", ""), fields.get("password", ""))
        if user is None or not applications.handles(user.sub):
            return pages.handler_sign_in("No handler of applications has this user name and password.", 401)
        return _list(applications, user.sub)

    @router.post("/decide")
    async def decide(request: Request) -> Response:
        fields = await oauth.form(request)
        secret, command = fields.get("action", ""), fields.get("command", "")
        pending = applications.rems.store.get_pending("rems-action", secret)
        number = fields.get("application", "")
        if (
            pending is None
            or pending[1] <= time.time()
            or command not in HANDLING
            or not (number.isascii() and number.isdigit())
        ):
            return pages.handler_sign_in("Sign in again: the list was open for more than ten minutes.", 403)
        applications.rems.store.drop_pending("rems-action", secret)
        handler = str(pending[0]["sub"])
        try:
            applications.command(command, handler, CommandBody.model_validate({"application-id": int(number[:12])}))
        except RefusedCommand:
            return _list(applications, handler, "It was decided meanwhile: nothing was changed.")
        return _list(applications, handler)

    return router


def _list(applications: Applications, handler: str, message: str = "") -> HTMLResponse:
    secret = secrets.token_urlsafe(32)
    store = applications.rems.store
    if store.pending_count("rems-action") >= MAX_LISTS:
        return pages.handler_sign_in("Too many lists are open; try again in ten minutes.", 429)
    store.put_pending("rems-action", secret, {"sub": handler}, ACTION_LIFE)
    shown = [
        {
            "number": a["application/id"],
            "state": str(a["application/state"]).rpartition("/")[2],
            "applicant": a["application/applicant"]["userid"],
            "datasets": [r["resource/ext-id"] for r in a["application/resources"]],
            "purpose": a["application/forms"][0]["form/fields"][0]["field/value"],
        }
        for a in applications.listing(handler)
    ]
    commands = {state: [c for c, (before, _) in HANDLING.items() if state in before] for state in _states()}
    return pages.handler_list(shown[:200], commands, secret, message)


def _states() -> set[str]:
    return {s for before, _ in HANDLING.values() for s in before}


def _form(applications: Applications, chosen: list[int], message: str = "", status: int = 200) -> HTMLResponse:
    shown = [applications.items[n - 1] for n in chosen]
    named = [(item.title or item.dataset, item.dataset) for item in shown]
    return pages.application(named, ",".join(map(str, chosen)), message, status)


def _chosen(applications: Applications, items: str) -> list[int] | None:
    numbers = [int(n) for n in items.split(",") if n.isascii() and n.isdigit() and len(n) < 7]
    known = bool(numbers) and len(numbers) <= 50 and all(applications.item(n) for n in numbers)
    return numbers if known else None


async def _body(request: Request, model: type[Model]) -> Model | Response:
    try:
        return model.model_validate(await request.json())
    except (ValueError, ValidationError):
        refused = {"type": "compojure.api.exception/request-validation", "in": ["request", "body-params"]}
        return JSONResponse(refused, 400)


def _refused(refused: RefusedCommand) -> Response:
    return JSONResponse({"success": False, "errors": [refused.error]})
