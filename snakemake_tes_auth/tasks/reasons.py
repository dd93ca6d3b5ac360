"""Why a task failed, from what the node lets be read: exit code, error class, line, dataset. Everything a server says
is bounded here.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from tes.models import Task, TaskLog

from gdi.contracts.tes import state_of

_CLASS = re.compile(r"^[A-Za-z][A-Za-z0-9]{0,60}$")
_ERROR = re.compile(r"GDI-ERROR class=([A-Za-z][A-Za-z0-9]{0,60})(?: line=([0-9]{1,10}))?")
_SNAKEMAKES_END = re.compile(
    r"(\n\[[^\n]*\])?\nError in (rule|group) .*?(\nAt least one job did not complete successfully\.|\Z)", re.DOTALL
)
_DATASET = re.compile(r"^[A-Za-z0-9][A-Za-z0-9._:-]{0,127}$")
FINAL = frozenset(
    {"AccessDenied", "NotFound", "NotCrypt4GH", "WrongKey", "MissingInput"}
)  # the node's own words: trying again gives the same
PLATFORM_TRIES = 3  # how often SYSTEM_ERROR and PREEMPTED are tried anew, for each of Snakemake's attempts


@dataclass(frozen=True)
class Failure:
    """`state` is the task's; `exit_code` of the executor that failed; the others where the node tells them."""

    state: str
    exit_code: int | None = None
    error_class: str | None = None
    line: int | None = None
    dataset: str | None = None
    reason: str = ""
    said: str = ""  # the end of standard error, where the node lets it be read

    @property
    def worth_another_try(self) -> bool:
        """The platform's fault, not the job's: a restarted TES, a connection cut while an input was fetched, a machine
        taken away.
        """
        return self.state in ("SYSTEM_ERROR", "PREEMPTED") and self.error_class not in FINAL

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
                "SYSTEM_ERROR": ": the node could not run the task; its operator finds the reason in the TES's log",
            }.get(self.state, f": the task ended as {self.state}")
        if self.said:
            text += f"; it said: {self.said}"
        return text[:1900]


def failure(task: Task) -> Failure:
    """Reads a failed task's last log (`logs[-1]` is the last try of the TES itself)."""
    log = task.logs[-1] if task.logs else TaskLog()
    metadata = log.metadata or {}
    codes = [executor.exit_code for executor in log.logs or []]
    exit_code = next((c for c in reversed(codes) if c is not None), None)
    lines = _lines(log)
    told = next((found for line in reversed(lines) if (found := _ERROR.fullmatch(line))), None)
    return Failure(
        state=state_of(task),
        exit_code=exit_code,
        error_class=_match(_CLASS, metadata.get("gdi_error_class")) or (told[1] if told else None),
        line=_number(metadata.get("gdi_line") or (told[2] if told else None)),
        dataset=_match(_DATASET, metadata.get("gdi_dataset")),
        reason=_printable(metadata.get("gdi_reason") or "")[:1000],
        said=_printable(" | ".join([line for line in lines if not _ERROR.fullmatch(line)][-3:]))[-600:],
    )


def _lines(log: TaskLog) -> list[str]:
    """The end of the last executor's standard error, without what Snakemake itself says when a job of a task failed."""
    said = [executor.stderr for executor in log.logs or [] if executor.stderr is not None]
    text = said[-1][-16_384:] if said else ""
    text = _SNAKEMAKES_END.sub("\n", text)
    return [line.strip() for line in text.splitlines() if line.strip()]


def _printable(value: Any) -> str:
    return "".join(c if c.isprintable() else " " for c in str(value))


def _match(pattern: re.Pattern[str], value: Any) -> str | None:
    return value if isinstance(value, str) and pattern.match(value) else None


def _number(value: Any) -> int | None:
    text = str(value) if value is not None else ""
    return int(text) if re.fullmatch(r"[0-9]{1,15}", text) else None
