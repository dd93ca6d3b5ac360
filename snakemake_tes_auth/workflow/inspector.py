"""`python -m snakemake_tes_auth.workflow.inspector SNAKEFILE CONFIG OUT`: reads a Snakefile as Snakemake does and
writes what its rules are, as JSON. Runs no job.

A Snakefile is a stranger's program and runs here: start this in a process (and sandbox) of its own, never in a service.
What it writes is checked by `RuleFacts` where it is read. Leans on Snakemake's inner names, checked against 9.27.1
(tests/unit/test_workflow_tools.py).
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from types import CodeType, FunctionType
from typing import Any

from pydantic import Field

from gdi.kit.models import Strict

# Names by which a function of a Snakefile reads a file's content. (`exists`, `glob` and the like ask for names only.)
READS = frozenset(
    {
        "open",
        "read_text",
        "read_bytes",
        "read_csv",
        "read_table",
        "read_json",
        "read_excel",
        "read_parquet",
        "loadtxt",
        "genfromtxt",
        "fromfile",
        "readlines",
    }
)
CALLS = 3  # how deep functions that call functions are followed


class RuleFacts(Strict):
    """One rule as declared. `kind` is what its jobs do; `norun` rules only name targets. `reads`: the directives whose
    functions read file contents.

    `makes` are the paths of workflow.yaml's releases that an output of the rule matches.
    """

    name: str = Field(max_length=200)
    line: int
    kind: str = Field(pattern=r"^(shell|run|script|notebook|wrapper|cwl|template_engine|norun)$")
    container: str | None = Field(default=None, max_length=1000)
    local: bool = False
    checkpoint: bool = False
    reads: list[str] = Field(default_factory=list, max_length=50)
    uses_checkpoint: list[str] = Field(default_factory=list, max_length=50)
    makes: list[str] = Field(default_factory=list, max_length=50)
    inputs: int = 0


class SnakefileFacts(Strict):
    """What a Snakefile declares, or why Snakemake cannot read it (`error`, its own words)."""

    snakemake: str = Field(max_length=50)
    rules: list[RuleFacts] = Field(default_factory=list, max_length=5000)
    error: str = Field(default="", max_length=4000)


def inspect(snakefile: Path, config: dict[str, Any], releases: list[str]) -> SnakefileFacts:
    import snakemake
    from snakemake.api import SnakemakeApi
    from snakemake.settings.types import ConfigSettings, OutputSettings, ResourceSettings

    version = str(snakemake.__version__)
    try:
        with SnakemakeApi(OutputSettings()) as api:
            made = api.workflow(
                ResourceSettings(cores=1), config_settings=ConfigSettings(config=config), snakefile=snakefile
            )
            workflow = made._workflow
            return SnakefileFacts(
                snakemake=version, rules=[_facts(rule, workflow, releases) for rule in workflow.rules]
            )
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt):
            raise
        return SnakefileFacts(snakemake=version, error=_words(error))


def _facts(rule: Any, workflow: Any, releases: list[str]) -> RuleFacts:
    kinds = ("shell", "script", "notebook", "wrapper", "cwl", "template_engine")
    kind = next(
        (k for k in kinds if getattr(rule, "shellcmd" if k == "shell" else k, None)), "norun" if rule.norun else "run"
    )
    functions = list(_functions(rule))
    outputs = [item for item in rule.output if not callable(item)]
    image = getattr(rule, "_container_img", None) or getattr(workflow, "global_container_img", None)
    return RuleFacts(
        name=str(rule.name)[:200],
        line=_line(rule, workflow),
        kind=kind,
        container=str(image).removeprefix("docker://")[:1000]
        if image and not callable(image)
        else ("(a function)" if image else None),
        local=rule.name in workflow._localrules,
        checkpoint=bool(rule.is_checkpoint),
        reads=sorted({where for where, f in functions if READS & _names(f)})[:50],
        uses_checkpoint=sorted({where for where, f in functions if "checkpoints" in _names(f)})[:50],
        makes=[path for path in releases if any(_matches(output, path) for output in outputs)][:50],
        inputs=len(rule.input),
    )


def _line(rule: Any, workflow: Any) -> int:
    """The rule's line in the author's file; Snakemake itself knows that of the Python it made of it."""
    return int(workflow.linemaps.get(rule.snakefile, {}).get(rule.lineno, rule.lineno) or 0)


def _matches(output: Any, path: str) -> bool:
    """Whether a rule's output pattern makes this path, here without a storage in front."""
    return bool(output.match(path)) or str(output) == path


def _functions(rule: Any) -> Iterator[tuple[str, FunctionType]]:
    """The functions of a rule that Snakemake calls where it runs: (directive, function)."""
    found: list[tuple[str, Any]] = [("input", item) for item in rule.input]
    found += [("params", item) for item in rule.params]
    found += [(f"resources.{name}", item) for name, item in _resources(rule)]
    found += [("container", getattr(rule, "_container_img", None))]
    for where, item in found:
        function = getattr(item, "callable", None) or getattr(item, "_file", None) or item
        while not isinstance(function, FunctionType) and hasattr(function, "__wrapped__"):
            function = function.__wrapped__
        if isinstance(function, FunctionType):
            yield where, function


def _resources(rule: Any) -> list[tuple[str, Any]]:
    return [(str(name), getattr(value, "_evaluator", None)) for name, value in (rule.resources or {}).items()]


def _names(function: FunctionType, depth: int = CALLS) -> set[str]:
    """The names that a function uses, also in functions inside it and in those of the Snakefile that it calls."""
    found: set[str] = set()
    codes: list[CodeType] = [function.__code__]
    while codes:
        code = codes.pop()
        found |= set(code.co_names)
        codes += [c for c in code.co_consts if isinstance(c, CodeType)]
    for name in list(found) if depth else []:
        called = function.__globals__.get(name)
        if isinstance(called, FunctionType) and called.__globals__ is function.__globals__ and called is not function:
            found |= _names(called, depth - 1)
    return found


def _words(error: BaseException) -> str:
    from snakemake.exceptions import WorkflowError

    text = str(error) or type(error).__name__
    line = getattr(error, "lineno", None)
    file = getattr(error, "snakefile", None) or getattr(error, "filename", None)
    where = f" ({Path(str(file)).name}, line {line})" if line else ""
    return (text if isinstance(error, WorkflowError) else f"{type(error).__name__}: {text}")[:3000] + where


def main(argv: list[str]) -> int:
    snakefile, config, out = (Path(a) for a in argv)
    given = json.loads(config.read_text())
    out.write_text(inspect(snakefile, given["config"], given["releases"]).model_dump_json())
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
