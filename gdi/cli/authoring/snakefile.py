"""A Snakefile's rules, read by Snakemake itself in a process of its own, sandboxed where bubblewrap works: it is a
stranger's program.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from gdi.contracts.workflow import CatalogueEntry, CatalogueError, RulesLock
from gdi.runner.sandbox import (
    Bind,
    Sandbox,
    SandboxLimits,
    SandboxUnavailableError,
    find_bwrap,
    python_folders,
    source_folders,
)
from snakemake_tes_auth.workflow.inspector import RuleFacts, SnakefileFacts

SECONDS = 120.0
MODULE = "snakemake_tes_auth.workflow.inspector"
PACKAGES = (
    "snakemake_tes_auth",
    "gdi.kit",
    "gdi.contracts",
    "gdi.broker_client",
    "snakemake_storage_plugin_sda",
    "snakemake_executor_plugin_tes_auth",
    "snakemake_logger_plugin_airflow",
)
MAX_ANSWER = 4 * 1024 * 1024


def example_config(entry: CatalogueEntry) -> dict[str, Any]:
    """A config as a run's: the parameters' defaults, and for a required one the first value that its schema allows."""
    flow = entry.workflow
    values = {name: schema.get("default", _some(schema)) for name, schema in flow.parameters.items()}
    return {"datasets": ["EGAD00000000001"], "node": "node-a", "run": "r-" + "0" * 20, **values}


def _some(schema: dict[str, Any]) -> Any:  # any JSON value
    if "const" in schema:
        return schema["const"]
    if schema.get("enum"):
        return schema["enum"][0]
    if schema.get("examples"):
        return schema["examples"][0]
    kind = schema.get("type")
    kind = kind[0] if isinstance(kind, list) and kind else kind
    number = schema.get("minimum", schema.get("exclusiveMinimum", 0) + ("exclusiveMinimum" in schema))
    return {"integer": number, "number": number, "boolean": False, "array": [], "object": {}, "null": None}.get(
        str(kind), "x"
    )


def read_rules(entry: CatalogueEntry) -> SnakefileFacts:
    """The rules of an entry's Snakefile. CatalogueError where Snakemake cannot read it, does not end in two minutes, or
    answers nonsense.
    """
    given = {"config": example_config(entry), "releases": [r.path for r in entry.workflow.releases]}
    with tempfile.TemporaryDirectory(prefix="gdi-inspect-") as name:
        work = Path(name)
        (work / "given.json").write_text(json.dumps(given))
        command, cwd = _command(entry.folder.resolve(), work)
        try:
            done = subprocess.run(
                command,
                cwd=cwd,
                env={"PATH": "/usr/bin:/bin", "HOME": name, "LANG": "C.UTF-8"},
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=SECONDS,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise CatalogueError(
                f"{entry.folder / 'Snakefile'}: Snakemake did not finish reading it within {SECONDS:.0f} s"
            ) from None
        facts = _answer(work / "facts.json", entry, done.stderr)
    if facts.error:
        raise CatalogueError(f"{entry.folder / 'Snakefile'}: Snakemake cannot read it: {_plain(facts.error)}")
    return facts


def _command(folder: Path, work: Path) -> tuple[list[str], Path | None]:
    """The command line and where it runs: in a sandbox without network that sees the workflow and nothing else, or
    plainly where none can be made.
    """
    python = [sys.executable, "-P", "-m", MODULE]
    try:
        bwrap = find_bwrap()
    except SandboxUnavailableError:
        return [*python, str(folder / "Snakefile"), str(work / "given.json"), str(work / "facts.json")], work
    sandbox = Sandbox(
        binds=[
            *python_folders(),
            *source_folders(*PACKAGES),
            Bind(folder, "/gdi/workflow"),
            Bind(work, "/gdi/work", writable=True),
        ],
        workdir="/gdi/work",
        environment={"HOME": "/gdi/work", "LANG": "C.UTF-8"},
        path=f"{Path(sys.prefix) / 'bin'}:/usr/local/bin:/usr/bin:/bin",
        hostname="inspect",
        limits=SandboxLimits(processes=256, open_files=1024, file_size=MAX_ANSWER * 4),
    )
    return sandbox.argv(
        bwrap, [*python, "/gdi/workflow/Snakefile", "/gdi/work/given.json", "/gdi/work/facts.json"]
    ), None


def _answer(file: Path, entry: CatalogueEntry, output: str) -> SnakefileFacts:
    try:
        if file.is_symlink() or file.stat().st_size > MAX_ANSWER:
            raise ValueError
        return SnakefileFacts.model_validate_json(file.read_bytes())
    except (OSError, ValueError, ValidationError):
        last = _plain(output).splitlines()[-3:]
        raise CatalogueError(
            f"{entry.folder / 'Snakefile'}: Snakemake ended without an answer: {' / '.join(last) or 'it said nothing'}"
        ) from None


def _plain(text: str) -> str:
    """Without control characters, bounded: it came from a stranger's program and goes to a terminal."""
    return re.sub(r"[^\n\x20-\x7e\xa0-\uffff]", "", text.replace("/gdi/workflow/", "")).strip()[:2000]


def lock_of(entry: CatalogueEntry, facts: SnakefileFacts) -> RulesLock:
    """What rules.lock has to say. CatalogueError where a rule's name cannot be a task's."""
    try:
        return RulesLock(digest=entry.digest, snakemake=facts.snakemake, rules=[rule.name for rule in with_jobs(facts)])
    except ValidationError as error:
        raise CatalogueError(f"{entry.folder / 'Snakefile'}: rules: {error.errors()[0]['msg']}") from None


def with_jobs(facts: SnakefileFacts) -> list[RuleFacts]:
    """Without those that only name targets, like `all`."""
    return [rule for rule in facts.rules if rule.kind != "norun"]
