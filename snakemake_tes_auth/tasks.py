"""A Snakemake job as a TES task: what is staged in and out, the command, and the key by which a later process finds the task again."""

from __future__ import annotations

import hashlib
import json
import shlex
from pathlib import Path, PurePosixPath
from typing import Any

from gdi_common.workflow import files_of
from snakemake_tes_auth.adapter import JobFile, JobView

Task = dict[str, Any]
WORK = "/gdi/work"
MAX_INLINE = 128 * 1024  # bytes of one inline content that every TES must take (TES 1.1, tesInput.content)
MAX_INLINE_TOTAL = 1024 * 1024
MAX_COMMAND = 120_000  # one argument of a process is at most 128 KiB on Linux


class CannotRun(Exception):
    """A job that cannot become a task: names the rule and what its author should write instead."""


def job_key(job: JobView, digest: str) -> str:
    """Stable over processes and pods of a run: workflow digest, rule, wildcards and outputs. 24 hex digits.

    Not the command: it may differ between attempts of the same job (`resources: mem_mb=lambda wc, attempt: …`), and the digest pins it otherwise.
    """
    value = [digest, job.rule, sorted(job.wildcards.items()), [f.query or f.local for f in job.outputs]]
    return hashlib.sha256(json.dumps(value, ensure_ascii=False).encode()).hexdigest()[:24]


def next_try(attempt: int, taken: set[str]) -> str:
    """The `gdi-try` tag of a new task: Snakemake's attempt, with `.n` behind it where the platform itself tries again."""
    name, n = str(attempt), 0
    while name in taken:
        n += 1
        name = f"{attempt}.{n}"
    return name


def direct_task(job: JobView, *, key: str, tries: str, folder: Path) -> Task:
    """The task of a shell rule with `container:`: its own command in its own image, with no Snakemake in it. CannotRun where that is not possible."""
    if job.shell is None or job.image is None or job.group:
        raise CannotRun(
            f"rule {job.rule} cannot run as a task: {job.why_not_direct}. "
            "Write it as `shell:` with `container:`; call a script as `python3 {workflow.basedir}/scripts/name.py`."
        )
    script = _script(job)
    if len(script.encode()) > MAX_COMMAND:
        raise CannotRun(f"rule {job.rule}: the shell command is longer than {MAX_COMMAND} bytes; put it into a script beside the Snakefile")
    return {
        "name": _name(job),
        "inputs": [*(_input(job, f) for f in job.inputs if f.query), *_sources(job, folder)],
        "outputs": [_output(job, f) for f in (*job.outputs, *job.logs)],
        "resources": resources(job),
        "executors": [{"image": job.image, "command": ["/bin/bash", "-euo", "pipefail", "-c", script], "workdir": WORK}],
        "tags": {"gdi-job": key, "gdi-try": tries, "gdi-rule": job.rule[:200], "gdi-jobid": str(job.jobid)},
    }


def resources(job: JobView) -> dict[str, Any]:
    """TES resources: cores from threads, memory and disk from `mem_mb`/`disk_mb` in GB, at least 0.1."""
    found: dict[str, Any] = {"cpu_cores": max(1, job.threads)}
    for name, tes in (("mem_mb", "ram_gb"), ("disk_mb", "disk_gb")):
        if (value := job.resources.get(name)) is not None and value > 0:
            found[tes] = max(0.1, round(float(value) / 1000, 3))
    return found


def _script(job: JobView) -> str:
    """The shell command with what Snakemake does around it: folders made, log files there, `touch()` outputs touched."""
    folders = {str(PurePosixPath(f.local).parent) for f in (*job.outputs, *job.logs)} | {f.local for f in job.outputs if f.directory}
    folders.discard(".")
    lines = [f"mkdir -p {WORK}", f"cd {WORK}"]
    if folders:
        lines.append("mkdir -p -- " + " ".join(shlex.quote(f) for f in sorted(folders)))
    if job.logs:
        lines.append("touch -- " + " ".join(shlex.quote(f.local) for f in job.logs))
    lines.append(str(job.shell))
    touched = [shlex.quote(f.local) for f in job.outputs if f.touch]
    if touched:
        lines.append("touch -- " + " ".join(touched))
    return "\n".join(lines)


def _name(job: JobView) -> str:
    wildcards = ",".join(f"{k}={v}" for k, v in sorted(job.wildcards.items()))
    return f"{job.rule}[{wildcards}]"[:200] if wildcards else job.rule[:200]


def _path(job: JobView, f: JobFile) -> str:
    path = PurePosixPath(f.local)
    if path.is_absolute() or ".." in path.parts:
        raise CannotRun(f"rule {job.rule}: the path {f.local} is not below the working directory; write relative paths")
    return f"{WORK}/{path}"


def _input(job: JobView, f: JobFile) -> Task:
    return {"url": f.query, "path": _path(job, f), "type": "DIRECTORY" if f.directory else "FILE"}


def _output(job: JobView, f: JobFile) -> Task:
    if not f.query:
        raise CannotRun(f"rule {job.rule}: the output {f.local} is a local file; remove `local()`, so that it goes to the workspace")
    return {"url": f.query, "path": _path(job, f), "type": "DIRECTORY" if f.directory else "FILE"}


def _sources(job: JobView, folder: Path) -> list[Task]:
    """The workflow's own files that the task needs, inline, at the same path as here: inputs that are not in storage, and the folder of
    each file that the command names (so that a script finds its modules)."""
    wanted: set[Path] = set()
    for f in job.inputs:
        if not f.query:
            path = Path(f.local).absolute()
            if not path.is_relative_to(folder) or not path.is_file():
                raise CannotRun(
                    f"rule {job.rule}: the input {f.local} is neither in storage nor a file of the workflow; give it as sda:// or make it in a rule"
                )
            wanted.add(path)
    command = str(job.shell)
    if str(folder) in command:
        files = [folder / name for name in files_of(folder)]
        for named in (f for f in files if str(f) in command):
            wanted.update(f for f in files if f.is_relative_to(named.parent) and f.name != "Snakefile")
    total = 0
    found = []
    for path in sorted(wanted):
        data = path.read_bytes()
        total += len(data)
        if len(data) > MAX_INLINE or total > MAX_INLINE_TOTAL:
            raise CannotRun(f"rule {job.rule}: the workflow's files it uses are too large at {path.name}; put large files into the image or a dataset")
        try:
            found.append({"content": data.decode(), "path": str(path), "type": "FILE"})
        except UnicodeDecodeError:
            raise CannotRun(f"rule {job.rule}: {path.name} is not a text file; put binary files into the image") from None
    return found
