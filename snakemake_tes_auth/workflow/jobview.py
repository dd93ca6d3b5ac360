"""What this package needs to know of a Snakemake job, as plain values: made by adapter.py, read by all that builds and
submits tasks.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class JobFile:
    """One file of a job: `local` is its path relative to the working directory, `query` its storage query ("" for a
    file that is not in storage).

    `non_empty` and `checksum` ("sha256:…") are what `ensure()` promises of an output. `updated`: it is `update()` and
    there already, so that the command finds it.
    """

    local: str
    query: str
    directory: bool = False
    touch: bool = False
    non_empty: bool = False
    checksum: str = ""
    updated: bool = False


@dataclass(frozen=True)
class JobView:
    """What this package needs to know of a Snakemake job, as plain values.

    `shell` is the whole command as Snakemake would give it to bash. `why_not_direct` is empty where the job can be a
    plain task. A group has `members`, in topological order. `inner` are local paths that stay in the task (temporary
    files within a group). `inside` is what remote_runner.py needs where Snakemake runs in the task, and
    `files` the workflow's own files that it reads (those of Snakemake's cache also where it does not run there).
    `environment` are the variables that the task gets. `problem` is set where the job cannot run at all.
    """

    jobid: int
    rule: str
    wildcards: dict[str, str]
    attempt: int
    threads: int
    resources: dict[str, int | float | str]
    inputs: list[JobFile]
    outputs: list[JobFile]
    logs: list[JobFile]
    shell: str | None
    image: str | None
    group: bool = False
    why_not_direct: str = ""
    benchmark: JobFile | None = None
    members: list[JobView] = field(default_factory=list)
    inner: frozenset[str] = frozenset()
    inside: dict[str, Any] | None = None
    files: tuple[Path, ...] = ()
    environment: dict[str, str] = field(default_factory=dict)
    problem: str = ""
