"""Columns that follow a contract's model: what it declares is stored, and nothing is declared a second time."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from gdi.contracts.jobs import JobFacts

MAX_STRING, MAX_INTEGER = 255, 2**31 - 1
AS_BEFORE = {"error_class": sa.String(61)}  # of revision 1; the contract allows 40


def job_columns() -> list[sa.Column[Any]]:
    """A column for each fact of a job, empty where it was not reported. An object is stored as JSON text."""
    return [
        sa.Column(name, AS_BEFORE.get(name) or _type(schema))
        for name, schema in JobFacts.model_json_schema()["properties"].items()
    ]


def _type(schema: dict[str, Any]) -> sa.types.TypeEngine[Any]:
    found = next((s for s in schema.get("anyOf", [schema]) if s.get("type") != "null"), schema)
    match found["type"]:
        case "string" if found.get("maxLength", MAX_STRING + 1) <= MAX_STRING:
            return sa.String(found["maxLength"])
        case "integer":
            return sa.BigInteger() if found.get("maximum", 0) > MAX_INTEGER else sa.Integer()
        case "number":
            return sa.Float()
        case _:
            return sa.Text()
