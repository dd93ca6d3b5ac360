"""A TES's task as the outside may see it: built from what is allowed, so that nothing of the node's own is in it by
accident.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Set
from dataclasses import dataclass
from typing import Any

from tes.models import Executor, ExecutorLog, Input, Output, OutputFileLog, Resources, Task, TaskLog

from gdi.contracts.task_errors import TaskError
from gdi.contracts.tes import ERRORS, View, id_of, state_of, tags_of
from node_gateway import door
from node_gateway.locations import from_s3
from node_gateway.redaction import redact

_NUMBER = re.compile(r"[0-9]{1,15}(\.[0-9]{1,6})?")
_KEY = re.compile(r"[a-z][a-z0-9_]{0,39}")
MAX_LOG = 64 * 1024
OWN_TAGS = ("gdi-run", "gdi-attempt", "gdi-node", "gdi-user", "gdi-intent")  # set by the gateway
ADDED_TAGS = (*OWN_TAGS, "gdi-try")  # to a task that comes without tags


@dataclass(frozen=True)
class Denial:
    """Why the gateway did not give this task its data."""

    error_class: str
    dataset: str
    reason: str


@dataclass(frozen=True)
class Lens:
    """What is needed to see a task from outside. `logs`: the policy lets what tasks print be read by anyone, and then
    all else too; `classes` of errors, and `lines`, that pass otherwise.
    """

    run: str
    bucket: str
    logs: bool
    classes: frozenset[str] = frozenset()
    lines: bool = False


def render(task: Task, view: View, lens: Lens, denial: Denial | None) -> Task:
    """The task in `view`. `#capability`, bucket names, standard output and error (unless `lens.logs`) and system logs
    are never in it.
    """
    state = state_of(task)
    if view == "MINIMAL":
        return Task(id=id_of(task), state=state)
    folders = {_url(file.url, lens) or "" for file in task.outputs or [] if file.type == "DIRECTORY"} - {""}
    logs = [_log(entry, view, lens, folders) for entry in task.logs or []]
    error = _error_of(task, denial) if state in ERRORS else None
    if state in ERRORS and not lens.logs and denial is None:
        error = door.error(error, lens.classes, lines=lens.lines, platforms=state != "EXECUTOR_ERROR")
    if error is not None:
        logs = logs or [TaskLog(logs=[], outputs=[], metadata={})]
        for entry in (logs[0], logs[-1]):  # a TES that tried more than once has a log for each
            entry.metadata = {**(entry.metadata or {}), **error.metadata()}
    made: Any = task.creation_time  # datetime | None: py-tes takes both, and says that it takes text
    return Task(
        id=id_of(task),
        state=state,
        name=_line(task.name),
        description=_line(task.description),
        inputs=[_input(file, lens, content=view == "FULL") for file in task.inputs or []],
        outputs=[_output(file, lens) for file in task.outputs or []],
        resources=_resources(task.resources) if task.resources else None,
        executors=[_executor(executor) for executor in task.executors or []],
        volumes=task.volumes,
        tags=_tags(tags_of(task)),
        logs=logs,
        creation_time=made if lens.logs else door.seconds(made),
    )


def _tags(tags: Mapping[str, str]) -> dict[str, str]:
    """What a client that knows only TES (its task has no key for its job) did not send, it does not see."""
    return {k: v for k, v in tags.items() if k != "gdi-intent" and ("gdi-job" in tags or k not in ADDED_TAGS)}


def _line(text: str | None) -> str | None:
    return None if text is None else redact(text, 4000)


def _times(log: TaskLog | ExecutorLog, lens: Lens) -> dict[str, Any]:
    times: dict[str, Any] = {"start_time": log.start_time, "end_time": log.end_time}
    return times if lens.logs else {name: door.seconds(time) for name, time in times.items()}


def _url(url: str | None, lens: Lens) -> str | None:
    """A file's URL without the node's own: no capability, no bucket."""
    if not url:
        return None
    return url.partition("#")[0] if url.startswith(("sda://", "htsget://")) else from_s3(url, lens.bucket, lens.run)


def _input(file: Input, lens: Lens, *, content: bool) -> Input:
    return Input(
        url=_url(file.url, lens),
        path=file.path,
        type=file.type,
        name=file.name,
        description=file.description,
        content=(file.content or None) if content else None,
    )


def _output(file: Output, lens: Lens) -> Output:
    return Output(
        url=_url(file.url, lens), path=file.path, type=file.type, name=file.name, description=file.description
    )


def _resources(given: Resources) -> Resources:
    return Resources(
        cpu_cores=given.cpu_cores, ram_gb=given.ram_gb, disk_gb=given.disk_gb, preemptible=given.preemptible
    )


def _executor(given: Executor) -> Executor:
    return Executor(
        image=given.image,
        command=given.command,
        workdir=given.workdir,
        stdin=given.stdin,
        stdout=given.stdout,
        stderr=given.stderr,
        env=given.env,
        ignore_error=given.ignore_error,
    )


def _log(entry: TaskLog, view: View, lens: Lens, folders: Set[str]) -> TaskLog:
    return TaskLog(
        **_times(entry, lens),
        logs=[_executor_log(log, lens, printed=lens.logs and view == "FULL") for log in entry.logs or []],
        outputs=_all_stored(entry, lens, folders),
        # Of a TES's own remarks only plain measures pass (CPU seconds, peak memory), of open data: never text.
        metadata={
            k: v
            for k, v in (entry.metadata or {}).items()
            if lens.logs and _KEY.fullmatch(k) and _NUMBER.fullmatch(v) and not k.startswith("gdi_")
        },
    )


def _all_stored(entry: TaskLog, lens: Lens, folders: Set[str]) -> list[OutputFileLog]:
    """The files that were stored; what lies in a folder is told of open data only."""
    stored = [found for output in entry.outputs or [] if (found := _stored(output, lens)) is not None]
    if lens.logs:
        return stored
    tops = tuple(folder.rstrip("/") + "/" for folder in folders)
    return [output for output in stored if not (output.url or "").startswith(tops)] if tops else stored


def _stored(output: OutputFileLog, lens: Lens) -> OutputFileLog | None:
    url = from_s3(output.url or "", lens.bucket, lens.run)
    size: Any = output.size_bytes  # int | None: as with times
    if size is not None and not lens.logs:
        size = door.size(int(size))
    return OutputFileLog(url=url, path=output.path or "", size_bytes=size) if url else None


def _executor_log(log: ExecutorLog, lens: Lens, *, printed: bool) -> ExecutorLog:
    return ExecutorLog(
        **_times(log, lens),
        exit_code=log.exit_code if lens.logs else door.exit_code(log.exit_code),
        stdout=_printed(log.stdout) if printed and log.stdout is not None else None,
        stderr=_printed(log.stderr) if printed and log.stderr is not None else None,
    )


def _printed(text: str) -> str:
    return "\n".join(redact(line, 4000) for line in text[-MAX_LOG:].splitlines())


def _error_of(task: Task, denial: Denial | None) -> TaskError | None:
    if denial is not None:
        return TaskError(denial.error_class, dataset=denial.dataset, reason=denial.reason)
    for entry in reversed(task.logs or []):
        for executor in reversed(entry.logs or []):
            for line in reversed((executor.stderr or "")[-MAX_LOG:].splitlines()):
                if found := TaskError.of_line(line):
                    return found
    return None


def printed(task: Task) -> str:
    """What the task printed, for the node's log page: standard error, then standard output, of each executor; the last
    64 KiB of each.
    """
    parts = []
    for entry in task.logs or []:
        for executor in entry.logs or []:
            for name, text in (("stderr", executor.stderr), ("stdout", executor.stdout)):
                if text:
                    parts.append(f"--- {name}\n{_printed(text)}\n")
    return "".join(parts)
