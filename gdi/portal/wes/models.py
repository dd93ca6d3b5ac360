"""The answers of WES 1.1, named as its OpenAPI names them with a `Wes` in front."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, Field

WesState = Literal[
    "UNKNOWN",
    "QUEUED",
    "INITIALIZING",
    "RUNNING",
    "PAUSED",
    "COMPLETE",
    "EXECUTOR_ERROR",
    "SYSTEM_ERROR",
    "CANCELED",
    "CANCELING",
    "PREEMPTED",
]


class WesErrorResponse(BaseModel):
    msg: str
    status_code: int


class WesRunId(BaseModel):
    run_id: str


class WesRunStatus(BaseModel):
    """`tags` are more than the specification asks for: those of the run, and why it waits."""

    run_id: str
    state: WesState
    tags: dict[str, str] = Field(default_factory=dict)


class WesRunSummary(WesRunStatus):
    start_time: str | None = None
    end_time: str | None = None


class WesRunListResponse(BaseModel):
    runs: list[WesRunSummary]
    next_page_token: str = ""


class WesRunRequest(BaseModel):
    workflow_params: dict[str, Any] = Field(default_factory=dict)
    workflow_type: str
    workflow_type_version: str
    tags: dict[str, str] = Field(default_factory=dict)
    workflow_engine_parameters: dict[str, str] = Field(default_factory=dict)
    workflow_engine: str
    workflow_engine_version: str
    workflow_url: str


class WesLog(BaseModel):
    """What is not known is left out: the specification has no null."""

    name: str
    cmd: list[str] = Field(default_factory=list)
    start_time: str | None = None
    end_time: str | None = None
    stdout: str | None = None
    stderr: str | None = None
    exit_code: int | None = None
    system_logs: list[str] = Field(default_factory=list)


class WesTaskLog(WesLog):
    id: str


class WesTaskListResponse(BaseModel):
    task_logs: list[WesTaskLog]
    next_page_token: str = ""


class WesRunLog(BaseModel):
    run_id: str
    request: WesRunRequest
    state: WesState
    run_log: WesLog
    task_logs_url: str
    task_logs: list[WesTaskLog]
    outputs: dict[str, str]
