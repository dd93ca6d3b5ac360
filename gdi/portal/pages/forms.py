"""A form out of a JSON Schema, and the parameters out of what a person filled in. What cannot be read as its type stays
text: the schema then says what is wrong with it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

PREFIX = "p."  # of the fields' names in the form
Kind = Literal["number", "text", "choice", "tick", "ticks", "lines", "json"]


@dataclass(frozen=True)
class Field:
    """One parameter as the form shows it. `value`: what is filled in; `chosen`: what is ticked of `options`."""

    name: str
    kind: Kind
    title: str
    description: str = ""
    required: bool = False
    value: str = ""
    options: tuple[str, ...] = ()
    chosen: frozenset[str] = frozenset()
    limits: Mapping[str, str] = field(default_factory=dict)  # HTML attributes: min, max, step, maxlength, pattern


def fields_of(schema: Mapping[str, Any], values: Mapping[str, Any] | None = None) -> list[Field]:
    """`schema`: of the object; `values`: filled in instead of the defaults."""
    required = schema.get("required") or []
    made = []
    for name, part in (schema.get("properties") or {}).items():
        value = part.get("default") if values is None else values.get(name)
        made.append(_field(name, part, value, name in required))
    return made


def _field(name: str, part: Mapping[str, Any], value: Any, required: bool) -> Field:
    kind = kind_of(part)
    options: tuple[str, ...] = ()
    chosen: frozenset[str] = frozenset()
    if kind == "choice":
        options = tuple(_text(o) for o in part["enum"])
    elif kind == "ticks":
        options = tuple(_text(o) for o in part["items"]["enum"])
        chosen = frozenset(_text(v) for v in value) if isinstance(value, list) else frozenset()
    elif kind == "tick":
        chosen = frozenset({"true"}) if value is True else frozenset()
    if kind == "lines" and isinstance(value, list):
        text = "\n".join(_text(v) for v in value)
    elif kind == "json" and value is not None and not isinstance(value, str):
        text = json.dumps(value, indent=1)
    else:
        text = "" if value is None else _text(value)
    title = str(part.get("title") or name)
    return Field(name, kind, title, str(part.get("description") or ""), required, text, options, chosen, _limits(part))


def kind_of(part: Mapping[str, Any]) -> Kind:
    """How a parameter of this schema is filled in."""
    if isinstance(part.get("enum"), list):
        return "choice"
    match part.get("type"):
        case "integer" | "number":
            return "number"
        case "boolean":
            return "tick"
        case "string":
            return "text"
        case "array":
            items = part.get("items")
            if isinstance(items, dict) and isinstance(items.get("enum"), list):
                return "ticks"
            if isinstance(items, dict) and items.get("type") in ("string", "integer", "number"):
                return "lines"
    return "json"


def _limits(part: Mapping[str, Any]) -> dict[str, str]:
    limits: dict[str, str] = {}
    if part.get("type") in ("integer", "number"):
        limits["step"] = "1" if part["type"] == "integer" else "any"
    for key, attribute in (("minimum", "min"), ("maximum", "max"), ("maxLength", "maxlength")):
        if isinstance(part.get(key), int | float):
            limits[attribute] = _text(part[key])
    return limits


def read_parameters(schema: Mapping[str, Any], form: Mapping[str, list[str]]) -> dict[str, Any]:
    """The parameters that a form holds. What was left empty is left out."""
    found: dict[str, Any] = {}
    for name, part in (schema.get("properties") or {}).items():
        given = form.get(PREFIX + name, [])
        kind = kind_of(part)
        if kind == "tick":
            found[name] = given == ["true"]
        elif kind == "ticks":
            by_text = {_text(o): o for o in part["items"]["enum"]}
            found[name] = [by_text.get(g, g) for g in given]
        elif given and given[0].strip():
            found[name] = _value(kind, part, given[0].strip())
    return found


def _value(kind: Kind, part: Mapping[str, Any], text: str) -> Any:
    if kind == "number":
        return _number(text)
    if kind == "choice":
        return {_text(o): o for o in part["enum"]}.get(text, text)
    if kind == "lines":
        lines = [line.strip() for line in text.splitlines() if line.strip()]
        return [_number(x) for x in lines] if part["items"]["type"] != "string" else lines
    if kind == "json":
        try:
            return json.loads(text, parse_constant=_refuse)
        except (ValueError, RecursionError):
            return text
    return text


def _number(text: str) -> int | float | str:
    try:
        return int(text)
    except ValueError:
        pass
    try:
        number = float(text)
    except ValueError:
        return text
    return number if number == number and abs(number) != float("inf") else text


def _refuse(constant: str) -> None:
    raise ValueError(constant)


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)
