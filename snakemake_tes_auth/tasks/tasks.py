"""A Snakemake job as a TES task: plain, with its own command in its own image, or with Snakemake inside; and the key by
which a later process finds it.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import stat
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any, Literal
from urllib.parse import urlsplit

from tes.models import Executor, Input, Output, Resources, Task

from gdi.contracts.tes import changed, tags_of
from gdi.contracts.urls import HtsgetUrl
from snakemake_tes_auth.files.queries import parse
from snakemake_tes_auth.tasks import direct
from snakemake_tes_auth.workflow import adapter
from snakemake_tes_auth.workflow.jobview import JobFile, JobView
from snakemake_tes_auth.workflow.opened import opened
from snakemake_tes_auth.workflow.source_files import SourceFiles

Mode = Literal["auto", "direct", "snakemake"]
MAX_COMMAND = 120_000  # bytes; one argument of a process is at most 128 KiB on Linux
MAX_COMMANDS = 1_000_000  # of all arguments together
_WORD = re.compile(r"[^\s'\"`;|&<>(){}]+")
RUNNER = Path(__file__).with_name("remote_runner.py")
JOB_FOLDER = "/gdi/job"
TOOLS = "/gdi/tools"  # where the workflow's programs come in, each by its whole path, to be copied to there
BEFORE = "/gdi/before"  # where what is to be updated comes in: a mount cannot be changed in its place
OUTPUTS = "/gdi/outputs"  # where directory outputs are put at the end: their own paths are the command's to make


class CannotRun(Exception):
    """A job that cannot become a task: names the rule and what its author should write instead."""


def job_key(job: JobView, digest: str) -> str:
    """Stable over processes and pods of a run: workflow digest, rule, wildcards and outputs. 24 hex digits.

    Not the command: it may differ between attempts of the same job (`resources: mem_mb=lambda wc, attempt: …`), and the
    digest pins it otherwise.
    """
    value = [digest, job.rule, sorted(job.wildcards.items()), [f.query or f.local for f in job.outputs]]
    return hashlib.sha256(json.dumps(value, ensure_ascii=False).encode()).hexdigest()[:24]


def next_try(attempt: int, taken: set[str]) -> str:
    """The `gdi-try` tag of a new task: Snakemake's attempt, with `.n` behind it where the platform itself tries
    again.
    """
    name, n = str(attempt), 0
    while name in taken:
        n += 1
        name = f"{attempt}.{n}"
    return name


def is_program(path: Path) -> bool:
    """Whether its owner may execute it: a TES brings files without their modes."""
    try:
        return path.is_file() and bool(path.stat().st_mode & stat.S_IXUSR)
    except OSError:
        return False


@dataclass(frozen=True)
class Plan:
    """A task without what only its moment knows. `files` are local files that it needs, and `at` says where it sees
    them: `await sources.inputs(plan.files, plan.at)`."""

    files: tuple[Path, ...]
    draft: Task
    moving: tuple[tuple[str, str], ...] = ()  # paths that differ by process or folder, the longest first, with a name

    @staticmethod
    def at(path: Path) -> str:
        if path == RUNNER:
            return f"{JOB_FOLDER}/{RUNNER.name}"
        return f"{TOOLS}{path}" if is_program(path) else str(path)

    def task(self, *, key: str, tries: str, sources: Iterable[Input]) -> Task:
        """The whole task. CannotRun where py-tes's validation refuses it."""
        sources = list(sources)
        tags = {"gdi-job": key, "gdi-try": tries, **tags_of(self.draft), "gdi-hash": self.hash(sources)}
        task = changed(self.draft, inputs=[*(self.draft.inputs or []), *sources], tags=tags)
        valid, why = task.is_valid()
        if not valid:
            reason = "; ".join(str(why).splitlines())
            raise CannotRun(f"rule {tags['gdi-rule']} is no valid TES 1.1 task: {reason}; report this, with the rule")
        return task

    def hash(self, sources: Iterable[Input]) -> str:
        """What the task does: its command, image, environment, files and their contents. 32 hex digits, the same in
        each process that would make this task, wherever the workflow lies."""
        executor = (self.draft.executors or [])[0]

        def text_of(value: Any) -> str:
            text = json.dumps(value, ensure_ascii=False, sort_keys=True)
            for path, name in self.moving:
                text = text.replace(path, name)
            return text

        given = [*(self.draft.inputs or []), *sources]
        files = sorted(text_of([i.url, i.content, i.path, i.type]) for i in given)
        stored = [[o.url, o.path, o.type] for o in self.draft.outputs or []]
        text = text_of([executor.image, executor.command, executor.env or {}, stored]) + "\n".join(files)
        return hashlib.sha256(text.encode()).hexdigest()[:32]


class Builder:
    """`folder` holds the Snakefile and `work` is the working directory: both are the same paths in the task. `image`
    serves where a rule names none, and where Snakemake runs inside; `mode` forces one way for all jobs. `cache` is
    Snakemake's source cache."""

    def __init__(
        self,
        folder: Path,
        *,
        image: str,
        mode: Mode = "auto",
        work: Path | None = None,
        cache: Path | None = None,
        sources: SourceFiles | None = None,
    ) -> None:
        self._image, self._mode = image, mode
        self._folder, self._work = folder, work or Path.cwd()
        self.sources = sources or SourceFiles(folder, self._work, cache)
        self._read: set[Path] = set()  # what Snakemake reads, asked once
        self._unstable = ""

    def early_problem(self, job: Any) -> str:
        """Why this job can be no task, as far as its image and its files' names say so before anything runs; "" where
        they do not.
        """
        rule, image, queries = adapter.image_and_outputs(job)
        problem = image_problem(image) if image and self._mode != "snakemake" else ""
        problem = problem or next((p for q in queries if (p := name_problem(q))), "")
        return f"rule {rule}: {problem}" if problem else ""

    def look(self, job: Any) -> JobView:
        """Reads Snakemake's job, on Snakemake's own thread; with what Snakemake inside needs where that is the way.
        Never raises: see `problem`.
        """
        view = adapter.named(next(iter(job)) if job.is_group() else job)
        try:
            view = adapter.view(job)
            workflow = job.dag.workflow
            self._unstable = str(adapter.runtime_cache(workflow))
            if view.problem or self.mode(view) == "direct":
                if any(self._unstable in (m.shell or "") for m in view.members or [view]):
                    return replace(view, files=tuple(sorted(adapter.runtime_files(workflow))))
                return view
            self._read = self._read or adapter.sources(workflow) | {f for f in opened() if self.sources.may_read(f)}
            files = {Path(os.path.normpath(f)) for f in self._read | adapter.cached_sources(job)}
            return replace(view, inside=adapter.inside(job, max(1, view.threads)), files=tuple(sorted(files)))
        except CannotRun as error:
            return replace(view, problem=str(error))
        # The workflow's own functions run here: it is this job that fails, not the whole run that falls over.
        except Exception as error:
            return replace(view, problem=f"{type(error).__name__}: {str(error)[:500]}")

    def mode(self, job: JobView) -> Literal["direct", "snakemake"]:
        """`direct` where the job's command alone does it, unless the setting says otherwise. CannotRun where direct is
        asked for and not possible.
        """
        why = job.why_not_direct or _too_long(job)
        if self._mode == "direct" and why:
            raise CannotRun(
                f"rule {job.rule} cannot run as a plain task: {why}. Write it as `shell:` with `container:`, or leave"
                " out --tes-auth-mode direct: then Snakemake runs in the task."
            )
        return "snakemake" if why or self._mode == "snakemake" else "direct"

    def plan(self, job: JobView) -> Plan:
        """Pure; from any thread. CannotRun where the job cannot be a task."""
        if job.problem:
            raise CannotRun(job.problem if job.problem.startswith("rule ") else f"rule {job.rule}: {job.problem}")
        for f in (*job.inputs, *job.outputs, *job.logs, *([job.benchmark] if job.benchmark else [])):
            _check_name(job, f)
        if job.inside is not None:
            return self._inside(job)
        return self._direct(job)

    def _direct(self, job: JobView) -> Plan:
        files = self.sources.by_command(job) | self._local_inputs(job) | set(job.files)
        image = job.image or self._image
        _check_image(job, image)
        arguments = direct.script(
            job,
            str(self._work),
            folders=_folders(job).items(),
            links=self.sources.links(files),
            copies=_updated(self, job),
            detours=self._detours(job),
            tools=(TOOLS, [str(f) for f in files if is_program(f)]),
        )
        if len(arguments[0].encode()) > MAX_COMMAND or sum(len(a.encode()) for a in arguments) > MAX_COMMANDS:
            raise CannotRun(
                f"rule {job.rule}: the task's script is longer than {MAX_COMMAND} bytes; name fewer outputs, or a"
                " directory()"
            )
        command = ["/bin/bash", "-euo", "pipefail", "-c", *arguments]
        return self._plan(job, "direct", files, image, command, [], one_by_one=True)

    def _inside(self, job: JobView) -> Plan:
        files = self.sources.by_snakemake(job.files) | self._local_inputs(job) | {RUNNER}
        given = {
            **(job.inside or {}),
            "folders": list(_folders(job).items()),
            "links": self.sources.links(files),
            "copies": _updated(self, job),
            "detours": self._detours(job),
            "tools": [[str(f), Plan.at(f)] for f in sorted(files) if f != RUNNER and is_program(f)],
        }
        content = json.dumps(given, ensure_ascii=False, separators=(",", ":"), default=str)
        command = ["python3", f"{JOB_FOLDER}/{RUNNER.name}", f"{JOB_FOLDER}/job.json"]
        return self._plan(
            job,
            "snakemake",
            files,
            self._image,
            command,
            [Input(content=content, path=f"{JOB_FOLDER}/job.json")],
        )

    def _plan(
        self,
        job: JobView,
        mode: str,
        files: Iterable[Path],
        image: str,
        command: list[str],
        inline: list[Input],
        *,
        one_by_one: bool = False,
    ) -> Plan:
        outputs = [*job.outputs, *job.logs, *(m.benchmark for m in job.members or [job] if m.benchmark)]
        updated = {f.local: f for f in job.outputs if f.updated}
        mounted = [self._input(job, f) for f in job.inputs if f.query and f.local not in updated]
        before = [Input(url=_url(f.query), path=f"{BEFORE}/{n}", type="FILE") for n, f in enumerate(updated.values())]
        return Plan(
            tuple(sorted(files)),
            Task(
                name=_name(job),
                inputs=[*mounted, *before, *inline],
                outputs=[self._output(job, f) for f in outputs],
                resources=resources(job, one_by_one=one_by_one),
                executors=[
                    Executor(image=image, command=command, workdir=str(self._work), env=job.environment or None)
                ],
                volumes=self._volumes(files),
                tags={"gdi-rule": job.rule[:200], "gdi-jobid": str(job.jobid), "gdi-mode": mode},
            ),
            moving=self._moving(),
        )

    def _moving(self) -> tuple[tuple[str, str], ...]:
        """The cache, the Snakefile's folder and the working directory: a start elsewhere makes the same task."""
        named = {self._unstable: "<cache>", str(self._folder): "<folder>", str(self._work): "<work>"}
        return tuple(sorted((one for one in named.items() if one[0] not in ("", "/")), key=lambda one: -len(one[0])))

    def _volumes(self, files: Iterable[Path]) -> list[str]:
        """Where the job may write, also on a TES whose containers are read-only."""
        cached = {self._unstable for f in files if self._unstable and f.is_relative_to(self._unstable)}
        return [str(self._work), *sorted(cached)]

    def _local_inputs(self, job: JobView) -> set[Path]:
        """Inputs that are not in storage: files of the workflow itself."""
        found = set()
        for f in job.inputs:
            if not f.query:
                path = Path(os.path.normpath(self._work / f.local))
                if not path.is_file() or not self.sources.covers(path):
                    raise CannotRun(
                        f"rule {job.rule}: the input {f.local} is neither in storage nor a file of the workflow; name"
                        " its storage (sda://…, s3://…) or make it in a rule"
                    )
                found.add(path)
        return found

    def _detours(self, job: JobView) -> list[str]:
        """Folders that have to be there for a path with `..` to lead anywhere: `workflow.source_path("../x.txt")`."""
        found = {str(self._work / f.local) for f in job.inputs if not f.query}
        for member in job.members or [job]:
            found |= {w for w in _WORD.findall(member.shell or "") if self._unstable and w.startswith(self._unstable)}
        return sorted({path.rpartition("/")[0] for path in found if "/../" in path})

    def path(self, job: JobView, f: JobFile) -> str:
        """Where the task has the file. CannotRun where that is not below the working directory."""
        path = PurePosixPath(f.local)
        if path.is_absolute() or ".." in path.parts:
            raise CannotRun(
                f"rule {job.rule}: the path {f.local} is not below the working directory; write relative paths"
            )
        return f"{self._work}/{path}"

    def _input(self, job: JobView, f: JobFile) -> Input:
        return Input(url=_url(f.query), path=self.path(job, f), type="DIRECTORY" if f.directory else "FILE")

    def _output(self, job: JobView, f: JobFile) -> Output:
        if not f.query:
            raise CannotRun(
                f"rule {job.rule}: the output {f.local} is a local file; remove `local()` or give a default storage"
            )
        path, kind = self.path(job, f), "DIRECTORY" if f.directory else "FILE"
        return Output(url=f.query, path=_within(f.local, _folders(job)) or path, type=kind)


def _url(query: str) -> str:
    """An input as a TES has it: what is htsget's in Funnel's form, which says the endpoint."""
    url = parse(query) if query.startswith("htsget://") else None
    return url.tes_url if isinstance(url, HtsgetUrl) else query


def resources(job: JobView, *, one_by_one: bool = False) -> Resources:
    """TES resources: cores from threads, memory and disk from `mem_mb`/`disk_mb` in GB, at least 0.1; `preemptible`,
    `tes_zones` (comma-separated), and every other `tes_NAME` as the backend parameter NAME. A group whose jobs run
    `one_by_one` needs what its largest job needs, and disk for all."""
    members = job.members if one_by_one and job.members else [job]
    resources = {k: v for m in members for k, v in m.resources.items()}
    zones = str(resources.get("tes_zones", ""))
    own = {k.removeprefix("tes_"): str(v) for k, v in resources.items() if k.startswith("tes_") and k != "tes_zones"}
    return Resources(
        cpu_cores=max([1, *(m.threads for m in members)]),
        ram_gb=_gigabytes(members, "mem_mb", max),
        disk_gb=_gigabytes(members, "disk_mb", sum),
        preemptible=True if resources.get("preemptible") else None,
        zones=[z.strip() for z in zones.split(",") if z.strip()] if zones else None,
        backend_parameters=own or None,
    )


def _gigabytes(members: list[JobView], name: str, join: Callable[[list[float]], float]) -> float | None:
    """What all of `members` need of the resource `name` (MB): in GB, at least 0.1; None where none names it."""
    values = [float(v) for m in members if isinstance(v := m.resources.get(name), int | float) and v > 0]
    return max(0.1, round(join(values) / 1000, 3)) if values else None


def _folders(job: JobView) -> dict[str, str]:
    """The job's directory outputs, with the paths from where the TES takes them; one within another goes with that."""
    found: dict[str, str] = {}
    for f in sorted((f for f in job.outputs if f.directory), key=lambda f: len(PurePosixPath(f.local).parts)):
        if not _within(f.local, found):
            found[f.local] = f"{OUTPUTS}/{len(found)}"
    return found


def _within(name: str, folders: dict[str, str]) -> str:
    """From where the TES takes a directory output, or what is declared within one (a file, a log): "" for others."""
    for folder, target in folders.items():
        if PurePosixPath(name).is_relative_to(folder):
            return str(target / PurePosixPath(name).relative_to(folder))
    return ""


def _updated(builder: Builder, job: JobView) -> list[tuple[str, str]]:
    """The outputs that are changed in place, each with the path at which what it was before comes in."""
    updated = (f for f in job.outputs if f.updated)
    return [(builder.path(job, f), f"{BEFORE}/{n}") for n, f in enumerate(updated)]


def _check_image(job: JobView, image: str) -> None:
    if problem := image_problem(image):
        raise CannotRun(f"rule {job.rule}: {problem}")


def image_problem(image: str) -> str:
    """Why no TES can take this image; "" where it may."""
    if "://" in image or image.startswith(("/", "./", "../", "~")) or image.endswith((".sif", ".simg", ".img")):
        return (
            f"the image {image[:200]} is one for Apptainer only; a TES takes the name of an image in a registry, such"
            " as docker://debian:stable-slim"
        )
    if not image or any(c.isspace() or ord(c) < 33 for c in image):
        return f"{image[:200]!r} is no name of an image"
    return ""


def _too_long(job: JobView) -> str:
    longest = max((len((m.shell or "").encode()) for m in job.members or [job]), default=0)
    return f"its command is longer than {MAX_COMMAND} bytes" if longest > MAX_COMMAND else ""


def _check_name(job: JobView, f: JobFile) -> None:
    if any(ord(c) < 32 or ord(c) == 127 for c in f.local + f.query):
        raise CannotRun(
            f"rule {job.rule}: the file name {f.local!r} holds a control character (a line break?); constrain the"
            " wildcard or rename the file"
        )
    if problem := name_problem(f.query):
        raise CannotRun(f"rule {job.rule}: {problem}")
    if "@" in urlsplit(f.query).netloc:
        raise CannotRun(
            f"rule {job.rule}: the address of {f.local} holds a user or a password, which everyone who may see the task"
            " could read: leave it out, the TES uses credentials of its own"
        )


def name_problem(query: str) -> str:
    """Why a storage would take this name for another one; "" where it would not."""
    if query.partition("://")[0] in ("s3", "gs", "gcs") and (mark := next((c for c in "#?" if c in query), "")):
        return f"the storage takes what stands behind {mark} in {query} for no part of the name: rename the file"
    return ""


def _name(job: JobView) -> str:
    wildcards = ",".join(f"{k}={v}" for k, v in sorted(job.wildcards.items()))
    return f"{job.rule}[{wildcards}]"[:200] if wildcards else job.rule[:200]
