"""The published OpenAPI of GA4GH WES 1.1.0, against which answers are held."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import Any

import httpx
import jsonschema
import yaml

FILE = Path(__file__).with_name("ga4gh") / "wes-1.1.0.yaml"
PREFIX = "/ga4gh/wes/v1"
SERVICE = {  # GA4GH service-info 1.0.0, to which the specification only links
    "type": "object",
    "required": ["id", "name", "type", "organization", "version"],
    "properties": {
        "id": {"type": "string"},
        "name": {"type": "string"},
        "type": {"type": "object", "required": ["group", "artifact", "version"]},
        "organization": {"type": "object", "required": ["name", "url"]},
        "version": {"type": "string"},
    },
}


@cache
def document() -> dict[str, Any]:
    """Its `nullable` and its link elsewhere as JSON Schema has them."""
    found: dict[str, Any] = _plain(yaml.safe_load(FILE.read_text()))
    return found


def _plain(value: Any) -> Any:
    if isinstance(value, list):
        return [_plain(one) for one in value]
    if not isinstance(value, dict):
        return value
    if str(value.get("$ref", "")).startswith("https://"):
        return SERVICE
    made = {key: _plain(one) for key, one in value.items()}
    return {"anyOf": [made, {"type": "null"}]} if made.pop("nullable", False) else made


def operations() -> set[tuple[str, str]]:
    return {(method.upper(), path) for path, methods in document()["paths"].items() for method in methods}


def check(answer: httpx.Response) -> None:
    """AssertionError where the answer is none that the specification knows for its operation."""
    path = answer.request.url.path.removeprefix(PREFIX).rstrip("/")
    method = "GET" if answer.request.method == "HEAD" else answer.request.method
    for template, methods in document()["paths"].items():
        if re.fullmatch(re.sub(r"\{[^}]+\}", "[^/]+", template), path) and method.lower() in methods:
            break
    else:
        raise AssertionError(f"WES has no {method} {path}")
    known = {str(status): part for status, part in methods[method.lower()]["responses"].items()}
    status = str(answer.status_code)
    assert status in known or answer.status_code in (413, 429, 503), (method, path, status, answer.text)
    assert answer.headers["content-type"].startswith("application/json"), answer.headers
    if answer.request.method == "HEAD":
        return
    schema = known.get(status, known["500"])["content"]["application/json"]["schema"]
    jsonschema.Draft202012Validator({**document(), **schema}).validate(answer.json())
    assert "null" not in re.findall(r":\s*(null)", answer.text), "the specification's fields have no null"
    if answer.status_code >= 400:
        assert answer.json()["status_code"] == answer.status_code and answer.json()["msg"]
