"""The description of the API: errors by status, how to sign in, and a page that lists it all without any script."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any

from fastapi import FastAPI, Response
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel

from gdi.contracts import broker_api as m
from gdi.contracts import portal_api as p
from gdi.contracts.notices import NoticeChoice
from gdi.kit.problem import PROBLEM_JSON, Problem
from gdi.kit.web import Pages

WHAT = {
    400: "The request cannot be read.",
    401: "No token, or one that does not serve: sign in again.",
    403: "Refused: no consent, no access, or not yours.",
    404: "There is nothing of this name that you may see.",
    409: "It contradicts what is known; the sentence says what.",
    413: "The request is too large.",
    422: "Something in the request is not as it must be; each mistake is named.",
    429: "Too much at once: try again after Retry-After seconds.",
    503: "The broker or Airflow is away: send it again.",
}
EXAMPLE = Problem(
    type="urn:gdi:problem:consent-needed",
    title="Consent needed",
    status=403,
    detail="You have given no consent to run allele-frequency on these datasets.",
    action="Give it: POST /v1/grants, or send `consent` with the start.",
).model_dump()


def requests() -> dict[str, BaseModel]:
    """An example of each body that is sent, by its model: what `docs/examples` send. Good for as long as it is shown:
    its times lie ahead.
    """
    what: dict[str, Any] = {"workflow": "allele-frequency", "parameters": {"regions": 4}}
    datasets = ["EGAD50000000001", "EGAD50000000002"]
    return {
        "StartCheck": p.StartCheck(**what, datasets=datasets),
        "RunStart": p.RunStart(**what, datasets=datasets, consent=p.Consent(days=30), tags={"paper": "draft 2"}),
        "GrantRequest": m.GrantRequest(
            workflows=["allele-frequency"],
            datasets=datasets,
            expires_at=(time.time() // 86400 + 30) * 86400,
            mode="standing",
            label="until the paper is out",
        ),
        "NoticeChoice": NoticeChoice(kinds=["run-succeeded", "run-failed"], email=True),
    }


def answers(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """FastAPI's `responses` of a call: its own error statuses, and those of every call with a token."""
    shown: dict[int | str, dict[str, Any]] = {}
    for status in sorted({400, 401, 429, 503, *statuses}):
        content: dict[str, Any] = {PROBLEM_JSON: {"schema": {"$ref": "#/components/schemas/Problem"}}}
        if status == 403:
            content[PROBLEM_JSON]["example"] = EXAMPLE
        shown[status] = {"description": WHAT[status], "content": content}
    return shown


def describe(app: FastAPI, issuer: str | None) -> None:
    """Gives the application its OpenAPI: with a problem's model, and LS AAI as OpenID Connect where it is known."""

    def schema() -> dict[str, Any]:
        if app.openapi_schema is None:
            made = get_openapi(
                title=app.title,
                version=app.version,
                description=app.description,
                routes=app.routes,
                tags=app.openapi_tags,
            )
            parts = made.setdefault("components", {})
            problem = Problem.model_json_schema(ref_template="#/components/schemas/{model}")
            parts.setdefault("schemas", {})["Problem"] = problem
            if issuer is not None:
                parts.setdefault("securitySchemes", {})["lsAaiSignIn"] = {
                    "type": "openIdConnect",
                    "openIdConnectUrl": f"{issuer.rstrip('/')}/.well-known/openid-configuration",
                    "description": "Where a portal's own client gets the access token (authorization code with PKCE).",
                }
            for name, example in requests().items():
                parts["schemas"][name]["examples"] = [example.model_dump(mode="json", exclude_none=True)]
            for operation in operations(made):
                invalid = operation["responses"].get("422")
                if invalid is not None:
                    invalid["content"] = {PROBLEM_JSON: {"schema": {"$ref": "#/components/schemas/Problem"}}}
            for name in ("HTTPValidationError", "ValidationError"):
                parts["schemas"].pop(name, None)
            app.openapi_schema = made
        return app.openapi_schema

    app.openapi = schema  # type: ignore[method-assign]


def operations(schema: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for path in schema["paths"].values():
        for operation in path.values():
            if isinstance(operation, dict) and "responses" in operation:
                yield operation


def page(app: FastAPI, pages: Pages) -> Response:
    """`/docs`: every call with its parameters and errors, as a plain page."""
    found = app.openapi()
    calls = [
        {
            "method": method.upper(),
            "path": path,
            "summary": operation.get("summary", ""),
            "description": operation.get("description", ""),
            "parameters": operation.get("parameters", []),
            "body": _body(operation),
            "answers": sorted(operation["responses"].items()),
        }
        for path, methods in found["paths"].items()
        for method, operation in methods.items()
        if isinstance(operation, dict) and "responses" in operation
    ]
    models = [(name, json.dumps(model, indent=1)) for name, model in sorted(found["components"]["schemas"].items())]
    return pages.render("api.html", title=found["info"]["title"], calls=calls, models=models)


def _body(operation: dict[str, Any]) -> str:
    content = operation.get("requestBody", {}).get("content", {})
    found = [
        f"{media}: {str(part.get('schema', {}).get('$ref', '')).rpartition('/')[2] or 'fields'}"
        for media, part in content.items()
    ]
    return ", ".join(found)
