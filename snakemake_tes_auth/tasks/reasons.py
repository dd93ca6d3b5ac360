"""Why a task failed, from what the node lets be read: exit code, error class, line, dataset. Everything a server says
is bounded here.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from tes.models import Task, TaskLog

from gdi.contracts.task_errors import LASTING, TaskError
from gdi.contracts.tes import state_of

_SNAKEMAKES_END = re.compile(
    r"(\n\[[^\n]*\])?\nError in (rule|group) .*?(\nAt least one job did not complete successfully\.|\Z)", re.DOTALL
)
_SECRET = re.compile(
    r"eyJ[A-Za-z0-9_-]{5,}(?:\.[A-Za-z0-9_-]*){1,4}"  # JSON web tokens
    r"|(?i:\b(?:bearer|basic)\s+[A-Za-z0-9+/=._~-]{8,})"  # whatever an Authorization header held
    r"|gdi[ct]_[A-Za-z0-9_-]+"
    r"|(?i:(?<=[?&])(?:[\w-]*(?:signature|token|credential|secret|key)[\w-]*)=[^&\s\"']+)"  # of signed URLs
    r"|(?i:\b(?:password|passwd|secret(?:[_ -]?key)?|token|api[_-]?key)\b\s*[=:]\s*\S+)"
    r"|(?<=://)[^/\s:@]+:[^/\s@]+(?=@)"
)
_IN_PLACE = ("Device or resource busy", "Read-only file system", "Permission denied", "Invalid cross-device link")
LOG_END = 4000  # bytes of a log file that a failed task writes to standard error
PLATFORM_TRIES = 3  # how often SYSTEM_ERROR and PREEMPTED are tried anew, for each of Snakemake's attempts


@dataclass(frozen=True)
class TaskFailure:
    """`state` is the task's; `exit_code` of the executor that failed; the others where the node tells them."""

    state: str
    exit_code: int | None = None
    error_class: str | None = None
    line: int | None = None
    dataset: str | None = None
    reason: str = ""
    stderr: str = ""  # the end of standard error, where the node lets it be read
    system: str = ""  # the end of the TES's own log of the task, where it shows one
    hint: str = ""

    @property
    def worth_another_try(self) -> bool:
        """The platform's fault, not the job's: a restarted TES, a connection cut while an input was fetched, a machine
        taken away.
        """
        return self.state in ("SYSTEM_ERROR", "PREEMPTED") and self.error_class not in LASTING

    def sentence(self, rule: str) -> str:
        parts = [f"rule {rule} failed"]
        if self.dataset:
            parts.append(f"on dataset {self.dataset}")
        if self.error_class:
            parts.append(f"with {self.error_class}")
        if self.line is not None:
            parts.append(f"at line {self.line}")
        if self.exit_code is not None and self.state == "EXECUTOR_ERROR":
            parts.append(f"(exit code {self.exit_code})")
        text = " ".join(parts)
        if self.reason:
            text += f": {self.reason}"
        elif self.state != "EXECUTOR_ERROR":
            text += {
                "CANCELED": ": the task was cancelled at the node",
                "PREEMPTED": ": the node took the machine away",
                "SYSTEM_ERROR": (
                    f": the TES could not run the task and writes: {self.system}"
                    if self.system
                    else ": the node could not run the task; its operator finds the reason in the TES's log"
                ),
            }.get(self.state, f": the task ended as {self.state}")
        if self.stderr:
            text += f"; it said: {self.stderr}"
        if self.system and self.state == "EXECUTOR_ERROR" and not self.stderr:
            text += f"; the TES writes: {self.system}"
        if self.hint:
            text = f"{text[:1500]}; {self.hint}"
        return text[:1900]


def failure(task: Task) -> TaskFailure:
    """Reads a failed task's last log (`logs[-1]` is the last try of the TES itself)."""
    log = task.logs[-1] if task.logs else TaskLog()
    metadata = log.metadata or {}
    codes = [executor.exit_code for executor in log.logs or []]
    exit_code = next((c for c in reversed(codes) if c is not None), None)
    lines = _lines(log)
    error = TaskError.of_metadata(metadata)
    printed = next((found for line in reversed(lines) if (found := TaskError.of_line(line))), TaskError())
    return TaskFailure(
        state=state_of(task),
        exit_code=exit_code,
        error_class=error.error_class or printed.error_class,
        line=printed.line if error.line is None else error.line,
        dataset=error.dataset,
        reason=error.reason,
        stderr=_printable(" | ".join([line for line in lines if not TaskError.of_line(line)][-3:]))[-600:],
        system=_system(log),
    )


def mount_hint(why: TaskFailure, inputs: Iterable[str]) -> str:
    """What to write where a command tried to change an input in place; "" where it did not."""
    if not any(words in why.stderr for words in _IN_PLACE):
        return ""
    named = next((name for name in inputs if name in why.stderr or PurePosixPath(name).name in why.stderr), "")
    return f"inputs are mounts that a task cannot change, move or remove: copy {named} first" if named else ""


def ends_of_logs(task: Task, names: Iterable[str]) -> dict[str, str]:
    """What a failed task wrote of its log files to standard error, by name; see `direct.script`."""
    log = task.logs[-1] if task.logs else TaskLog()
    text = next((e.stderr for e in reversed(log.logs or []) if e.stderr), "")
    found: dict[str, str] = {}
    marks = [(text.rfind(f"--- the end of {name}:\n"), name) for name in names]
    marks = sorted(mark for mark in marks if mark[0] >= 0)
    for (start, name), after in zip(marks, [*(m[0] for m in marks[1:]), len(text)], strict=False):
        content = text[start + len(f"--- the end of {name}:\n") : after]
        cut = len(content.encode()) >= LOG_END
        found[name] = (f"[only the last {LOG_END} bytes: the task failed]\n" if cut else "") + content
    return found


def _system(log: TaskLog) -> str:
    """The end of the TES's own log of a task, without what may be a secret, in one line."""
    lines = [_printable(_SECRET.sub("[removed]", line)).strip() for line in (log.system_logs or [])[-20:]]
    return " | ".join(line[:400] for line in lines if line)[-800:]


def _lines(log: TaskLog) -> list[str]:
    """The end of the last executor's standard error, without what Snakemake itself says when a job of a task failed."""
    outputs = [executor.stderr for executor in log.logs or [] if executor.stderr is not None]
    text = outputs[-1][-16_384:] if outputs else ""
    text = _SNAKEMAKES_END.sub("\n", text)
    return [line.strip() for line in text.splitlines() if line.strip()]


def _printable(value: Any) -> str:
    return "".join(c if c.isprintable() else " " for c in str(value))
