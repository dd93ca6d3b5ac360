"""Writes the contracts that Airflow's pages read as TypeScript: plugins/gdi_operators/ui/src/contract.ts, committed.

`python packaging/ui_types.py` writes it; a test compares it with the contracts.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from gdi.contracts.progress import Job, JobPage, Progress
from gdi.contracts.results import AnswerRows, ResultsView
from gdi.contracts.run_endings import Standing

FILE = Path(__file__).parents[1] / "plugins" / "gdi_operators" / "ui" / "src" / "contract.ts"
# A model whose defaults are left out on the way (model_dump(exclude_defaults=True)), or one that comes whole.
SPARSE: tuple[type[BaseModel], ...] = (Job, JobPage)
WHOLE: tuple[type[BaseModel], ...] = (Progress, Standing, ResultsView, AnswerRows)
HEAD = "// Written by packaging/ui_types.py from gdi/contracts: change it there.\n"


def text() -> str:
    """The whole file."""
    found: dict[str, str] = {}
    for models, sparse in ((SPARSE, True), (WHOLE, False)):
        for model in models:
            schema = model.model_json_schema(mode="serialization")
            for name, part in {**schema.pop("$defs", {}), model.__name__: schema}.items():
                found.setdefault(name, _interface(name, part, sparse=sparse))
    return HEAD + "".join(f"\n{part}" for _, part in sorted(found.items()))


def _interface(name: str, schema: dict[str, Any], *, sparse: bool) -> str:
    lines = [f"export interface {name} {{"]
    for field, part in schema["properties"].items():
        absent = (sparse and "default" in part) or (sparse and field not in schema.get("required", ()))
        line = f"  {field}{'?' if absent else ''}: {_type(part, sparse=sparse)};"
        name_, _, union = line.partition(": ")
        lines += [line] if len(line) <= 120 else [f"{name_}:", *(f"    | {part}" for part in union.split(" | "))]
    return "\n".join([*lines, "}", ""])


def _type(schema: dict[str, Any], *, sparse: bool) -> str:
    """A JSON Schema's type in TypeScript. A null that is a default never comes where defaults are left out."""
    if "$ref" in schema:
        return str(schema["$ref"]).rpartition("/")[2]
    if "anyOf" in schema:
        parts = [_type(part, sparse=sparse) for part in schema["anyOf"]]
        return " | ".join(dict.fromkeys(p for p in parts if not (sparse and p == "null")))
    if "const" in schema:
        return json.dumps(schema["const"])
    if "enum" in schema:
        return " | ".join(json.dumps(value) for value in schema["enum"])
    match schema.get("type"):
        case "string" | "boolean" | "null":
            return str(schema["type"])
        case "integer" | "number":
            return "number"
        case "array":
            if "prefixItems" in schema:
                return f"[{', '.join(_type(part, sparse=sparse) for part in schema['prefixItems'])}]"
            item = _type(schema["items"], sparse=sparse)
            return f"({item})[]" if " | " in item and not item.endswith("]") else f"{item}[]"
        case "object":
            return f"Record<string, {_type(_values(schema), sparse=sparse)}>"
        case _:
            raise ValueError(f"this script knows no TypeScript for {schema}")


def _values(schema: dict[str, Any]) -> dict[str, Any]:
    """The schema of an object's values, also where its keys have a pattern."""
    plain = schema.get("additionalProperties")
    return plain if isinstance(plain, dict) else next(iter(schema["patternProperties"].values()))


if __name__ == "__main__":
    FILE.write_text(text())
