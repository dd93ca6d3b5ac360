"""A TES's task as the outside may see it: built from what is allowed, so that nothing of the node's own is in it by
accident.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from gdi.contracts.task_errors import TaskError
from node_gateway.locations import from_s3
from node_gateway.redaction import redact
from node_gateway.tasks.tes_client import TesTask, state_of

_NUMBER = re.compile(r"[0-9]{1,15}(\.[0-9]{1,6})?")
_KEY = re.compile(r"[a-z][a-z0-9_]{0,39}")
ERRORS = ("EXECUTOR_ERROR", "SYSTEM_ERROR")
MAX_LOG = 64 * 1024


@dataclass(frozen=True)
class Denial:
    """Why the gateway did not give this task its data."""

    error_class: str
    dataset: str
    reason: str


@dataclass(frozen=True)
class Lens:
    """What is needed to see a task from outside. `logs`: the policy lets what tasks print be read by anyone."""

    run: str
    bucket: str
    logs: bool


def render(task: TesTask, view: str, lens: Lens, denial: Denial | None) -> dict[str, Any]:  # a TES 1.1 tesTask
    """The task in `view`. `#capability`, bucket names, standard output and error (unless `lens.logs`) and system logs
    are never in it.
    """
    state = state_of(task)
    seen: dict[str, Any] = {"id": str(task.get("id", "")), "state": state}
    if view == "MINIMAL":
        return seen
    for key in ("name", "description", "creation_time"):
        if isinstance(task.get(key), str):
            seen[key] = redact(task[key], 4000)
    seen["inputs"] = [_file(f, lens, content=view == "FULL") for f in _dicts(task.get("inputs"))]
    seen["outputs"] = [_file(f, lens, content=False) for f in _dicts(task.get("outputs"))]
    if isinstance(task.get("resources"), dict):
        seen["resources"] = {
            k: task["resources"][k]
            for k in ("cpu_cores", "ram_gb", "disk_gb", "preemptible")
            if task["resources"].get(k) is not None
        }
    fields = ("image", "command", "workdir", "stdin", "stdout", "stderr", "env", "ignore_error")
    seen["executors"] = [{k: e[k] for k in fields if e.get(k) is not None} for e in _dicts(task.get("executors"))]
    if isinstance(task.get("volumes"), list):
        seen["volumes"] = [str(v) for v in task["volumes"]]
    tags = task.get("tags")
    seen["tags"] = {str(k): str(v) for k, v in tags.items() if k != "gdi-intent"} if isinstance(tags, dict) else {}
    seen["logs"] = [_log(entry, view, lens) for entry in _dicts(task.get("logs"))]
    if state in ERRORS and (error := _error_of(task, denial)):
        seen["logs"] = seen["logs"] or [{"logs": [], "outputs": [], "metadata": {}}]
        for entry in (seen["logs"][0], seen["logs"][-1]):  # a TES that tried more than once has a log for each
            entry["metadata"] |= error.metadata()
    return seen


def _dicts(value: object) -> list[dict[str, Any]]:
    return [v for v in value if isinstance(v, dict)] if isinstance(value, list) else []


def _file(file: dict[str, Any], lens: Lens, *, content: bool) -> dict[str, Any]:
    seen = {k: file[k] for k in ("name", "description", "path", "type") if isinstance(file.get(k), str)}
    url = file.get("url")
    if isinstance(url, str) and url:
        seen["url"] = url.partition("#")[0] if url.startswith("sda://") else from_s3(url, lens.bucket, lens.run)
    if content and isinstance(file.get("content"), str) and file["content"]:
        seen["content"] = file["content"]
    return seen


def _log(entry: dict[str, Any], view: str, lens: Lens) -> dict[str, Any]:
    seen: dict[str, Any] = {k: str(entry[k])[:64] for k in ("start_time", "end_time") if entry.get(k)}
    seen["logs"] = []
    for executor in _dicts(entry.get("logs")):
        one: dict[str, Any] = {k: str(executor[k])[:64] for k in ("start_time", "end_time") if executor.get(k)}
        if isinstance(executor.get("exit_code"), int):
            one["exit_code"] = executor["exit_code"]
        if lens.logs and view == "FULL":
            one |= {k: _printed(executor[k]) for k in ("stdout", "stderr") if isinstance(executor.get(k), str)}
        seen["logs"].append(one)
    seen["outputs"] = []
    for output in _dicts(entry.get("outputs")):
        url = from_s3(str(output.get("url", "")), lens.bucket, lens.run)
        if url:
            seen["outputs"].append(
                {"url": url, "path": str(output.get("path", "")), "size_bytes": str(output.get("size_bytes", ""))[:20]}
            )
    metadata = entry.get("metadata")
    pairs = metadata.items() if isinstance(metadata, dict) else ()
    # Of a TES's own remarks only plain measures pass (CPU seconds, peak memory): never text.
    seen["metadata"] = {
        str(k): str(v)
        for k, v in pairs
        if _KEY.fullmatch(str(k)) and _NUMBER.fullmatch(str(v)) and not str(k).startswith("gdi_")
    }
    return seen


def _printed(text: str) -> str:
    return "\n".join(redact(line, 4000) for line in text[-MAX_LOG:].splitlines())


def _error_of(task: TesTask, denial: Denial | None) -> TaskError | None:
    if denial is not None:
        return TaskError(denial.error_class, dataset=denial.dataset, reason=denial.reason)
    for entry in reversed(_dicts(task.get("logs"))):
        for executor in reversed(_dicts(entry.get("logs"))):
            for line in reversed(str(executor.get("stderr") or "")[-MAX_LOG:].splitlines()):
                if found := TaskError.of_line(line):
                    return found
    return None


def printed(task: TesTask) -> str:
    """What the task printed, for the node's log page: standard error, then standard output, of each executor; the last
    64 KiB of each.
    """
    parts = []
    for entry in _dicts(task.get("logs")):
        for executor in _dicts(entry.get("logs")):
            for key in ("stderr", "stdout"):
                if executor.get(key):
                    parts.append(f"--- {key}\n{_printed(str(executor[key]))}\n")
    return "".join(parts)
