"""GA4GH TES 1.1: the states of a task, and py-tes's models as JSON and from JSON.

py-tes's own `unmarshal` refuses a whole task for one unknown field, state or time, and `as_dict` costs four times as
much as `to_json`: see docs/decisions/708-py-tes-models.md.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, Literal, TypeVar, get_args

from tes.models import Base, Executor, ExecutorLog, Input, Output, OutputFileLog, Resources, Task, TaskLog

M = TypeVar("M", bound=Base)
State = Literal[
    "UNKNOWN",
    "QUEUED",
    "INITIALIZING",
    "RUNNING",
    "PAUSED",
    "COMPLETE",
    "EXECUTOR_ERROR",
    "SYSTEM_ERROR",
    "CANCELED",
    "PREEMPTED",
    "CANCELING",
]
View = Literal["MINIMAL", "BASIC", "FULL"]

STATES: frozenset[str] = frozenset(get_args(State))
ERRORS: frozenset[str] = frozenset({"EXECUTOR_ERROR", "SYSTEM_ERROR"})
FAILED: frozenset[str] = ERRORS | {"CANCELED", "PREEMPTED"}
FINAL: frozenset[str] = FAILED | {"COMPLETE"}
LIVE: frozenset[str] = STATES - FINAL
ENDING: frozenset[str] = frozenset({"CANCELING"})  # alive, but of no use to anyone any more

MINIMAL = frozenset({"id", "state"})  # the fields of that view
MAX_INT64 = 2**63 - 1
MAX_TEXT = 64  # characters of a time or a number


def state_of(task: Task) -> str:
    """The task's state; UNKNOWN where there is none."""
    return task.state or "UNKNOWN"


def tags_of(task: Task) -> Mapping[str, str]:
    """The task's tags; empty where there are none."""
    return task.tags or {}


def id_of(task: Task) -> str:
    """The task's id; "" where it has none."""
    return task.id or ""


def changed(model: M, **fields: Any) -> M:  # fields: py-tes's own, which its validators check
    """The model with other values in `fields`. TypeError or ValueError where py-tes's validators refuse one."""
    return type(model)(**{**vars(model), **fields})


# --- to JSON ------------------------------------------------------------------------------------


def to_json(model: Base) -> dict[str, Any]:
    """A py-tes model as TES 1.1 writes it: no field that is None, times as RFC 3339, `size_bytes` as text (int64)."""
    return {name: _plain(name, value) for name, value in vars(model).items() if value is not None}


def _plain(name: str, value: Any) -> Any:
    if isinstance(value, list):
        return [to_json(item) for item in value] if value and isinstance(value[0], Base) else value
    if isinstance(value, Base):
        return to_json(value)
    if isinstance(value, datetime):
        return value.isoformat().replace("+00:00", "Z")
    return str(value) if name == "size_bytes" else value


# --- from JSON ----------------------------------------------------------------------------------


def from_json(body: Mapping[str, Any], *, identifier: str | None = None) -> Task:
    """A TES's answer (tesTask in any view) as a task; never an error. `identifier`: the id that the task was asked by.

    What TES does not know, and what is not of TES's type, is left out; an unknown state is UNKNOWN, no number is
    above 2^63-1, a time without zone is UTC. The caller bounds the answer's bytes.
    """
    state = body.get("state")
    task = Task(
        id=identifier or identifier_of(body),
        state=state if isinstance(state, str) and state in STATES else "UNKNOWN",
    )
    if body.keys() <= MINIMAL:
        return task
    resources = body.get("resources")
    return changed(
        task,
        name=_text(body.get("name")),
        description=_text(body.get("description")),
        inputs=_each(body.get("inputs"), _input),
        outputs=_each(body.get("outputs"), _output),
        resources=_resources(resources) if isinstance(resources, dict) else None,
        executors=_each(body.get("executors"), _executor),
        volumes=_texts(body.get("volumes")),
        tags=_pairs(body.get("tags")),
        logs=_each(body.get("logs"), _task_log),
        creation_time=_time(body.get("creation_time")),
    )


def tasks_from_json(body: Mapping[str, Any]) -> list[Task]:
    """The tasks of a TES's list (tesListTasksResponse); what has no id is left out."""
    tasks = body.get("tasks")
    found = tasks if isinstance(tasks, list) else []
    return [from_json(task) for task in found if isinstance(task, dict) and identifier_of(task) is not None]


def states_from_json(body: Mapping[str, Any]) -> list[tuple[str, str]]:
    """(id, state) of the tasks of a TES's list, as `tasks_from_json` has them, without a model for each."""
    tasks, found = body.get("tasks"), []
    for task in tasks if isinstance(tasks, list) else []:
        if isinstance(task, dict) and (identifier := identifier_of(task)) is not None:
            state = task.get("state")
            found.append((identifier, state if isinstance(state, str) and state in STATES else "UNKNOWN"))
    return found


def identifier_of(body: Mapping[str, Any]) -> str | None:
    """A task's id; some servers give a number where TES wants text. None where there is none."""
    value = body.get("id")
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    return _text(value)


def _input(body: dict[str, Any]) -> Input:
    return Input(
        url=_text(body.get("url")),
        path=_text(body.get("path")),
        type=_kind(body.get("type")),
        name=_text(body.get("name")),
        description=_text(body.get("description")),
        content=_text(body.get("content")),
        streamable=_flag(body.get("streamable")),
    )


def _output(body: dict[str, Any]) -> Output:
    return Output(
        url=_text(body.get("url")),
        path=_text(body.get("path")),
        path_prefix=_text(body.get("path_prefix")),
        type=_kind(body.get("type")),
        name=_text(body.get("name")),
        description=_text(body.get("description")),
    )


def _executor(body: dict[str, Any]) -> Executor:
    return Executor(
        image=_text(body.get("image")) or "",
        command=_texts(body.get("command")) or [],
        workdir=_text(body.get("workdir")),
        stdin=_text(body.get("stdin")),
        stdout=_text(body.get("stdout")),
        stderr=_text(body.get("stderr")),
        env=_pairs(body.get("env")),
        ignore_error=_flag(body.get("ignore_error")),
    )


def _resources(body: dict[str, Any]) -> Resources:
    return Resources(
        cpu_cores=_whole(body.get("cpu_cores")),
        ram_gb=_number(body.get("ram_gb")),
        disk_gb=_number(body.get("disk_gb")),
        preemptible=_flag(body.get("preemptible")),
        zones=_texts(body.get("zones")),
        backend_parameters=_pairs(body.get("backend_parameters")),
        backend_parameters_strict=_flag(body.get("backend_parameters_strict")),
    )


def _task_log(body: dict[str, Any]) -> TaskLog:
    return TaskLog(
        start_time=_time(body.get("start_time")),
        end_time=_time(body.get("end_time")),
        metadata=_pairs(body.get("metadata")),
        logs=_each(body.get("logs"), _executor_log),
        outputs=_each(body.get("outputs"), _output_log),
        system_logs=_texts(body.get("system_logs")),
    )


def _executor_log(body: dict[str, Any]) -> ExecutorLog:
    code = body.get("exit_code")
    return ExecutorLog(
        start_time=_time(body.get("start_time")),
        end_time=_time(body.get("end_time")),
        stdout=_text(body.get("stdout")),
        stderr=_text(body.get("stderr")),
        exit_code=code if isinstance(code, int) and abs(code) <= MAX_INT64 else None,
    )


def _output_log(body: dict[str, Any]) -> OutputFileLog:
    size: Any = _whole(body.get("size_bytes"))  # int | None: py-tes takes both, and says that it takes text
    return OutputFileLog(url=_text(body.get("url")), path=_text(body.get("path")), size_bytes=size)


def _each(value: object, read: Callable[[dict[str, Any]], M]) -> list[M] | None:
    return [read(item) for item in value if isinstance(item, dict)] if isinstance(value, list) else None


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None


def _texts(value: object) -> list[str] | None:
    return [item for item in value if isinstance(item, str)] if isinstance(value, list) else None


def _pairs(value: object) -> dict[str, str] | None:
    """A map of text to text; numbers in it are written as text."""
    if not isinstance(value, dict):
        return None
    return {str(k): str(v) for k, v in value.items() if isinstance(v, str | int | float) and not isinstance(v, bool)}


def _flag(value: object) -> bool | None:
    return value if isinstance(value, bool) else None


def _kind(value: object) -> str:
    return "DIRECTORY" if value == "DIRECTORY" else "FILE"


def _number(value: object) -> int | float | None:
    """A measure of at least 0; protobuf's JSON may write numbers as text."""
    if isinstance(value, str):
        try:
            value = float(value) if len(value) <= MAX_TEXT else None
        except ValueError:
            return None
    good = isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= MAX_INT64
    return value if good and isinstance(value, int | float) else None


def _whole(value: object) -> int | None:
    """A count of at least 0; protobuf's JSON writes int64 as text."""
    if isinstance(value, str):
        value = int(value) if len(value) <= MAX_TEXT and value.isascii() and value.isdecimal() else None
    number = _number(value)
    return int(number) if number is not None and number == int(number) else None


def _time(value: object) -> Any:  # datetime | None: py-tes takes both, and says that it takes text
    if not isinstance(value, str) or len(value) > MAX_TEXT:
        return None
    try:
        found = datetime.fromisoformat(value)
    except ValueError:
        return None
    return found if found.tzinfo else found.replace(tzinfo=UTC)
