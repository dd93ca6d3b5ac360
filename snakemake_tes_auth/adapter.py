"""Every place that touches Snakemake outside its stable plugin interface, checked against 9.27.1.

tests/unit/test_snakemake_adapter.py fails loudly where another Snakemake changed one of them.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

DROPPED_RESOURCES = ("_cores", "_nodes", "tmpdir")


@dataclass(frozen=True)
class JobFile:
    """One file of a job: `local` is its path relative to the working directory, `query` its storage query ("" for a file that is not in storage)."""

    local: str
    query: str
    directory: bool = False
    touch: bool = False


@dataclass(frozen=True)
class JobView:
    """What this package needs to know of a Snakemake job, as plain values."""

    jobid: int
    rule: str
    wildcards: dict[str, str]
    attempt: int
    threads: int
    resources: dict[str, int | float]
    inputs: list[JobFile]
    outputs: list[JobFile]
    logs: list[JobFile]
    shell: str | None
    image: str | None
    group: bool = False
    why_not_direct: str = ""
    extra: dict[str, Any] = field(default_factory=dict)


def view(job: Any) -> JobView:
    """Reads a job. `job.shellcmd` and `job.container_img_url` are complete when a job is handed to the executor."""
    if job.is_group():
        names = sorted({j.rule.name for j in job})
        return JobView(job.jobid, "+".join(names)[:200], {}, job.attempt, job.threads, {}, [], [], [], None, None, True, "it is part of a group")
    rule = job.rule
    shell = job.shellcmd if rule.shellcmd is not None else None
    image = job.container_img_url
    reason = ""
    if shell is None:
        reason = "it has no `shell:`"
    elif not image:
        reason = "it has no `container:`"
    return JobView(
        jobid=int(job.jobid),
        rule=str(rule.name),
        wildcards={str(k): str(v) for k, v in job.wildcards_dict.items()},
        attempt=int(job.attempt),
        threads=int(job.threads),
        resources={str(k): v for k, v in job.resources.items() if k not in DROPPED_RESOURCES and isinstance(v, int | float)},
        inputs=[_file(f) for f in job.unique_input],
        outputs=[_file(f) for f in job.output],
        logs=[_file(f) for f in job.log],
        shell=shell,
        image=_plain_image(image),
        why_not_direct=reason,
    )


def _plain_image(image: Any) -> str | None:
    """A container as TES names it: Snakemake's `docker://` prefix is its own."""
    return str(image).removeprefix("docker://") if image else None


def _file(f: Any) -> JobFile:
    flags = f.flags
    query = str(f.storage_object.query) if f.is_storage else ""
    return JobFile(str(f), query, directory=bool(flags.get("directory")), touch=bool(flags.get("touch")))


def retries_left(job: Any) -> bool:
    """Whether Snakemake will run this job again after an error now."""
    return bool(job.restart_times > job.attempt - 1)


def jobs(dag: Any) -> Iterable[Any]:
    """Every job of the DAG, whether it has to run or not."""
    return list(dag.jobs)


def does_nothing(job: Any) -> bool:
    """A job that only names targets, like the rule `all`."""
    return bool(job.is_norun)


def has_to_run(dag: Any, job: Any) -> bool:
    return bool(dag.needrun(job))


def rule_order(workflow: Any) -> list[str]:
    """The rules' names in the order in which the workflow declares them."""
    return [str(rule.name) for rule in workflow.rules]


def workflow_folder(workflow: Any) -> Path:
    return Path(str(workflow.main_snakefile)).absolute().parent
