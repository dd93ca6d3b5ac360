"""What several of the client's commands have in common: their arguments, and how JSON is printed."""

from __future__ import annotations

import json
import sys
from typing import Annotated, Any

import typer
from pydantic import BaseModel

from gdi.client import completion
from gdi.contracts.cohorts import PARAMETER

AsJson = Annotated[bool, typer.Option("--json", help="one JSON document on standard output")]
Datasets = Annotated[
    list[str],
    typer.Option("--dataset", "-d", help="a dataset's id; again for each", autocompletion=completion.dataset_ids),
]
Parameters = Annotated[
    list[str] | None, typer.Option("--parameter", "-p", metavar="NAME=VALUE", help="JSON, or else text; again for each")
]
CohortOf = Annotated[
    str | None,
    typer.Option(
        "--cohort",
        metavar="SPLIT=LEVEL",
        help="whose numbers, as `gdi datasets` lists them: sex=female, variables:NAME or table:NAME; else everybody's",
    ),
]
Run = Annotated[str, typer.Argument(help="the run's id, r-…", autocompletion=completion.run_ids)]
Workflow = Annotated[str, typer.Argument(autocompletion=completion.workflow_names)]


def print_json(found: BaseModel | list[Any] | dict[str, Any]) -> None:
    def plain(value: Any) -> Any:
        return value.model_dump(mode="json") if isinstance(value, BaseModel) else value

    body = [plain(v) for v in found] if isinstance(found, list) else plain(found)
    json.dump(body, sys.stdout, indent=1)
    sys.stdout.write("\n")


def parameters_of(given: list[str] | None, cohort: str | None = None) -> dict[str, Any]:
    """`NAME=VALUE` with JSON values; what is no JSON is text. `cohort` as `--cohort` has it. typer.BadParameter."""
    found: dict[str, Any] = {PARAMETER: _cohort(cohort)} if cohort is not None else {}
    for text in given or []:
        name, equals, value = text.partition("=")
        if not equals or not name:
            raise typer.BadParameter(f"{text!r}: write NAME=VALUE")
        try:
            found[name] = json.loads(value)
        except (ValueError, RecursionError):
            found[name] = value
    return found


def _cohort(text: str) -> dict[str, str]:
    kind, colon, name = text.partition(":")
    if colon and name and kind in ("variables", "table"):
        return {kind: name}
    split, equals, level = text.partition("=")
    if not (equals and split and level):
        raise typer.BadParameter(f"{text!r}: write SPLIT=LEVEL, variables:NAME or table:NAME", param_hint="--cohort")
    return {"split": split, "level": level}
