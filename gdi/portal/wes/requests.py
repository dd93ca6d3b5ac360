"""A RunWorkflow request as clients send it: form parts as text or as files, with or without a content type, urlencoded,
or a JSON body.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any

from fastapi import Request
from starlette.datastructures import UploadFile

from gdi.kit.problem import ProblemError

ATTACHMENT = "workflow_attachment"
OBJECTS = ("workflow_params", "tags", "workflow_engine_parameters")
TEXTS = ("workflow_type", "workflow_type_version", "workflow_engine", "workflow_engine_version", "workflow_url")
MAX_FILES, MAX_FIELDS, MAX_PART = 250, 50, 4 * 1024 * 1024
MAX_TAGS, MAX_TEXT = 50, 2000


@dataclass
class WesRequest:
    """`attachments` by their names: relative paths without `..`. `texts`: those that were not sent are empty."""

    texts: dict[str, str] = field(default_factory=dict)
    params: dict[str, Any] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    engine_parameters: dict[str, str] = field(default_factory=dict)
    attachments: dict[str, bytes] = field(default_factory=dict)


def bad(detail: str, action: str = "Correct it and send it again.", slug: str = "invalid-request") -> ProblemError:
    """WES knows 400 for whatever is wrong with a request."""
    return ProblemError(400, slug, detail, action=action)


async def read_request(request: Request) -> WesRequest:
    """ProblemError 400 naming the field or the attachment."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind in ("multipart/form-data", "application/x-www-form-urlencoded"):
        fields, attachments = await _form(request)
    elif kind == "application/json" or kind.endswith("+json"):
        fields, attachments = await _body(request), {}
    else:
        raise bad(f"The content type {kind[:100] or '(none)'} is not taken.", "Send multipart/form-data or JSON.")
    texts = {name: _text(name, fields.get(name)) for name in TEXTS}
    objects = {name: _object(name, fields.get(name)) for name in OBJECTS}
    return WesRequest(
        texts=texts,
        params=objects["workflow_params"],
        tags=_words("tags", objects["tags"]),
        engine_parameters=_words("workflow_engine_parameters", objects["workflow_engine_parameters"]),
        attachments=attachments,
    )


async def _form(request: Request) -> tuple[dict[str, Any], dict[str, bytes]]:
    fields: dict[str, Any] = {}
    attachments: dict[str, bytes] = {}
    async with request.form(max_files=MAX_FILES, max_fields=MAX_FIELDS, max_part_size=MAX_PART) as form:
        for name, value in form.multi_items():
            if name == ATTACHMENT:
                if not isinstance(value, UploadFile):
                    if value:
                        raise bad(f"{ATTACHMENT}: a part has no file name.", slug="bad-attachment")
                    continue
                file = attachment_name(value.filename or "")
                if file in attachments:
                    raise bad(f"The attachment {file!r} is there twice.", slug="bad-attachment")
                attachments[file] = await value.read()
                continue
            if name in fields:
                raise bad(f"{name[:100]}: it is given twice.")
            fields[name] = await _decoded(name, value) if isinstance(value, UploadFile) else value
    return fields, attachments


async def _decoded(name: str, part: UploadFile) -> str:
    try:
        return (await part.read()).decode()
    except UnicodeDecodeError:
        raise bad(f"{name[:100]}: it is no UTF-8 text.") from None


async def _body(request: Request) -> dict[str, Any]:
    try:
        found = json.loads(await request.body() or b"{}")
    except (ValueError, RecursionError):
        raise bad("The body is no JSON.") from None
    if not isinstance(found, dict):
        raise bad("The body must be a JSON object.")
    return found


def attachment_name(name: str) -> str:
    """A relative path that stays below the workflow's folder. ProblemError 400 naming it otherwise."""
    shown = name[:100]
    parts = PurePosixPath(name).parts
    if not name or name.startswith(("/", "\\")) or ":" in name or "\\" in name:
        raise bad(f"The attachment name {shown!r} must be a relative path.", slug="bad-attachment")
    if ".." in parts or "." in name.split("/") or "//" in name or not name.isprintable() or len(name) > 200:
        raise bad(
            f"The attachment name {shown!r} must not have '..', '.', '//' or more than 200 characters.",
            slug="bad-attachment",
        )
    return name


def _text(name: str, value: object) -> str:
    if value is None:
        return ""
    if not isinstance(value, str) or len(value) > MAX_TEXT:
        raise bad(f"{name}: must be a text of at most {MAX_TEXT} characters.")
    return value.strip()


def _object(name: str, value: object) -> dict[str, Any]:
    """A JSON object, or a text that holds one; nothing, null and an empty text are {}."""
    if isinstance(value, str):
        if not value.strip():
            return {}
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            raise bad(f"{name}: is no JSON.") from None
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise bad(f"{name}: must be a JSON object.")
    return value


def _words(name: str, values: dict[str, Any]) -> dict[str, str]:
    if len(values) > MAX_TAGS:
        raise bad(f"{name}: at most {MAX_TAGS} are taken.")
    found = {}
    for key, value in values.items():
        text = json.dumps(value) if isinstance(value, bool | int | float) else value
        if not isinstance(text, str) or not 0 < len(key) <= 100 or len(text) > 255:
            raise bad(f"{name}: {key[:100]!r} must be a text of at most 255 characters.")
        found[key] = text
    return found
