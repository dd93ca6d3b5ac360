"""`gdi workflow check`: what would go wrong with an entry once it runs at nodes, each with the rule's name and what to
write instead.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import jsonschema

from gdi.cli.authoring.snakefile import lock_of, with_jobs
from gdi.contracts.workflow import CatalogueEntry
from gdi.contracts.workflow_files import LOCK
from gdi.releases.registry import UnknownKindError, kind_of
from snakemake_tes_auth.workflow.inspector import RuleFacts, SnakefileFacts


@dataclass(frozen=True)
class Finding:
    """One mistake (`error`) or doubt (`warning`): where, what, and what to write instead."""

    level: Literal["error", "warning"]
    where: str
    what: str
    instead: str

    def __str__(self) -> str:
        return f"{self.where}: {self.what} {self.instead}"


def check(entry: CatalogueEntry, facts: SnakefileFacts) -> list[Finding]:
    """All findings, in the order of the file."""
    return [
        *(f for rule in facts.rules for f in _rule(entry, rule)),
        *_releases(entry, facts),
        *_kinds(entry),
        *_parameters(entry),
        *_lock(entry, facts),
    ]


def _rule(entry: CatalogueEntry, rule: RuleFacts) -> list[Finding]:
    where = f"Snakefile, line {rule.line}, rule {rule.name}"
    found = []

    def error(what: str, instead: str) -> None:
        found.append(Finding("error", where, what, instead))

    for place in rule.reads:
        error(
            f"its `{place}` function reads a file's content, which never comes to where Snakemake runs.",
            "Name the files by wildcards or parameters, and read them in a rule with `shell:` and `container:`.",
        )
    for place in rule.uses_checkpoint:
        error(
            f"its `{place}` function waits for a checkpoint, whose output stays at the node.",
            "Split by a number that is known before the start (a parameter), as workflows/allele-frequency does with"
            " `regions`.",
        )
    if rule.checkpoint:
        error(
            "a checkpoint's output would have to be read where Snakemake runs.",
            "Make it a `rule`, and let its jobs write what later jobs read themselves.",
        )
    if rule.kind == "norun":
        return found
    if rule.local:
        error(
            f"it is listed in `localrules` but does more than name targets ({rule.kind}): it would read and write where"
            " Snakemake runs, which has no files.",
            "Take it out of `localrules`.",
        )
    if not rule.container:
        error(
            "it has no `container:`, so no node knows in what its jobs run.",
            'Give it one, or one for all rules: `container: "image:tag"`.',
        )
    elif rule.container not in entry.workflow.needs.images:
        error(
            f"its image {rule.container[:200]!r} is not among needs.images in workflow.yaml, by which nodes decide"
            " whether they offer the workflow.",
            "Add it there.",
        )
    if rule.kind != "shell":
        found.append(
            Finding(
                "warning",
                where,
                f"it is a `{rule.kind}:` rule: its image must hold Python and Snakemake.",
                "Write `shell:` where a command does the same.",
            )
        )
    return found


def _releases(entry: CatalogueEntry, facts: SnakefileFacts) -> list[Finding]:
    makers = {
        path: [rule.name for rule in facts.rules if path in rule.makes]
        for path in (r.path for r in entry.workflow.releases)
    }
    found = [
        Finding(
            "error",
            f"workflow.yaml, releases.{i}.path",
            f"no rule makes {release.path!r}, which the release {release.name} declares.",
            "Write the path of a rule's output, relative to the workspace, as it stands in `output:`.",
        )
        for i, release in enumerate(entry.workflow.releases)
        if not makers[release.path]
    ]
    if not with_jobs(facts):
        found.append(
            Finding(
                "error",
                "Snakefile",
                "it has no rule with jobs.",
                "Write at least one rule with `output:` and `shell:`.",
            )
        )
    if not entry.workflow.releases:
        found.append(
            Finding(
                "warning",
                "workflow.yaml, releases",
                "nothing is declared, so nothing leaves a node.",
                "Declare what the answer is made of.",
            )
        )
    return found


def _kinds(entry: CatalogueEntry) -> list[Finding]:
    found = []
    if len(merged := [r.name for r in entry.workflow.releases if r.merge]) > 1:
        what = f"{', '.join(merged)} are merged, but a run has one answer."
        found.append(Finding("error", "workflow.yaml, releases", what, "Write `merge: false` for all but one."))
    for i, release in enumerate(entry.workflow.releases):
        where = f"workflow.yaml, releases.{i}"
        try:
            kind = kind_of(release.kind)
        except UnknownKindError as error:
            found.append(Finding("error", f"{where}.kind", error.problem.detail, error.problem.action))
            continue
        if release.schema_file and (wrong := _schema(entry.folder / release.schema_file, kind.format)):
            mend = f'Write `"format": {{"const": "{kind.format}"}}` into its properties, or name another kind.'
            found.append(Finding("error", f"{where}.schema_file", wrong, mend))
    return found


def _schema(file: Path, format_name: str) -> str:
    """What is wrong with a release's schema; empty where nothing is. `wanted`: the format of its kind."""
    try:
        schema = json.loads(file.read_text(encoding="utf-8"))
        jsonschema.Draft202012Validator.check_schema(schema)
    except (OSError, ValueError, jsonschema.SchemaError) as error:
        return f"{file.name} is no JSON Schema ({type(error).__name__})."
    named = schema.get("properties", {}).get("format", {}) if isinstance(schema, dict) else {}
    if not isinstance(named, dict) or ("const" not in named and "enum" not in named):
        return ""
    if named.get("const", format_name) != format_name or format_name not in named.get("enum", [format_name]):
        return f"{file.name} describes another format than {format_name}."
    return ""


def _parameters(entry: CatalogueEntry) -> list[Finding]:
    found = []
    for name in entry.workflow.required:
        if name not in entry.workflow.parameters:
            found.append(
                Finding(
                    "error",
                    "workflow.yaml, required",
                    f"{name!r} is not among the parameters.",
                    "Declare it, or take it out.",
                )
            )
    for name, schema in entry.workflow.parameters.items():
        if "default" in schema and (wrong := _wrong(entry, name, schema["default"])):
            found.append(
                Finding(
                    "error", f"workflow.yaml, parameters.{name}.default", f"{wrong}.", "Make default and schema agree."
                )
            )
        if not schema.get("title"):
            found.append(
                Finding(
                    "warning",
                    f"workflow.yaml, parameters.{name}",
                    "it has no title, so the form shows its bare name.",
                    "Add `title:`.",
                )
            )
    return found


def _wrong(entry: CatalogueEntry, name: str, value: object) -> str:
    loose = entry.workflow.model_copy(update={"required": []})
    return "; ".join(loose.check_parameters({name: value}))


def _lock(entry: CatalogueEntry, facts: SnakefileFacts) -> list[Finding]:
    mend = f"Run `gdi workflow lock {entry.folder}` and commit it."
    if entry.lock is None:
        return [Finding("error", LOCK, "it is missing, so Airflow cannot show the rules.", mend)]
    if entry.stale:
        return [Finding("error", LOCK, "it is stale: it was made for other files than these.", mend)]
    if entry.lock.rules != lock_of(entry, facts).rules:
        return [Finding("error", LOCK, "it names other rules than Snakemake reads in the Snakefile.", mend)]
    return []
