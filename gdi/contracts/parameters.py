"""A run's parameters as they travel: a JSON object of bounded size, and schemas that are checked in bounded time."""

from __future__ import annotations

import functools
import json
from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Annotated, Any

from pydantic import AfterValidator, JsonValue

MAX_PARAMETERS = 1_250_000  # bytes of the object as ASCII JSON: what is signed and stored
MAX_ITEMS = 50_000  # of one array or object whose schema says no less
MAX_MISTAKES = 20


def _bounded(most: int) -> AfterValidator:
    def check(value: dict[str, JsonValue]) -> dict[str, JsonValue]:
        if len(json.dumps(value, separators=(",", ":"))) > most:
            raise ValueError(f"the parameters have more than {most:,} bytes")
        return value

    return AfterValidator(check)


Parameters = Annotated[dict[str, JsonValue], _bounded(MAX_PARAMETERS)]
StartParameters = Annotated[dict[str, JsonValue], _bounded(MAX_PARAMETERS - 140_000)]  # the datasets come to them


@functools.cache
def _validator() -> Any:
    """jsonschema's, imported where a schema is looked at: the broker and others only carry parameters."""
    import jsonschema
    from jsonschema import validators

    def unique(validator: Any, wanted: bool, instance: Any, schema: Any) -> Iterator[jsonschema.ValidationError]:
        """`uniqueItems` in one pass: jsonschema's own compares each with each where the types differ."""
        if wanted and isinstance(instance, list):
            seen = {json.dumps(item, sort_keys=True) for item in instance}
            if len(seen) != len(instance):
                yield jsonschema.ValidationError("an item is there twice")

    extend: Any = validators.extend  # it has no types
    return extend(jsonschema.Draft202012Validator, {"uniqueItems": unique})


def _too_many(value: Any, schema: Mapping[str, Any], path: str) -> str:
    """Which array, object or text below `value` is larger than its schema, or MAX_ITEMS, allows; "" where none is."""
    sizes = ((list, "maxItems", "items"), (dict, "maxProperties", "properties"), (str, "maxLength", "characters"))
    for kind, key, word in sizes:
        most = schema.get(key, MAX_PARAMETERS if kind is str else MAX_ITEMS)
        if isinstance(value, kind) and isinstance(most, int | float) and len(value) > most:
            return f"{path}: has {len(value)} {word}; at most {int(most)} are taken"
    return ""


def mistakes(schema: Mapping[str, Any], values: Mapping[str, Any]) -> list[str]:
    """What is wrong with `values` under an object's JSON Schema, one sentence each, at most MAX_MISTAKES. Sizes are
    looked at first, so that what is too large is not looked at closely.
    """
    properties = schema.get("properties", {})
    for name, value in values.items():
        of = properties.get(name, {})
        if large := _too_many(value, of if isinstance(of, dict) else {}, name[:60]):
            return [large]
    errors = list(islice(_validator()(schema).iter_errors(values), MAX_MISTAKES))
    errors.sort(key=lambda e: [str(p) for p in e.path])
    return [f"{'.'.join(str(p) for p in e.path) or 'parameters'}: {e.message}"[:300] for e in errors]
