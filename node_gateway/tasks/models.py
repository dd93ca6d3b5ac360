"""A task as the outside may send it: GA4GH TES 1.1 `tesTask`, without what has no use here. Unknown fields are
refused.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from gdi.kit.models import Strict

Text = Annotated[str, Field(max_length=4000)]
Url = Annotated[str, Field(max_length=2000)]
ContainerPath = Annotated[str, Field(min_length=1, max_length=1200)]
Kind = Literal["FILE", "DIRECTORY"]
View = Literal["MINIMAL", "BASIC", "FULL"]

LIVE = frozenset({"UNKNOWN", "QUEUED", "INITIALIZING", "RUNNING", "PAUSED"})
ENDING = frozenset({"CANCELING"})
FINAL = frozenset({"COMPLETE", "EXECUTOR_ERROR", "SYSTEM_ERROR", "CANCELED", "PREEMPTED"})
STATES = LIVE | ENDING | FINAL


class Input(Strict):
    name: Text | None = None
    description: Text | None = None
    url: Url | None = None
    path: ContainerPath
    type: Kind = "FILE"
    content: Annotated[str, Field(max_length=1024 * 1024)] | None = None
    streamable: bool | None = None


class Output(Strict):
    name: Text | None = None
    description: Text | None = None
    url: Url
    path: ContainerPath
    path_prefix: str | None = None
    type: Kind = "FILE"


class Executor(Strict):
    image: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._/:@-]{0,254}$")]
    command: Annotated[list[Annotated[str, Field(max_length=256 * 1024)]], Field(min_length=1, max_length=2000)]
    workdir: ContainerPath | None = None
    stdin: ContainerPath | None = None
    stdout: ContainerPath | None = None
    stderr: ContainerPath | None = None
    env: dict[Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,100}$")], Text] | None = Field(
        default=None, max_length=200
    )
    ignore_error: bool | None = None


class Resources(Strict):
    cpu_cores: int | None = Field(default=None, ge=1)
    preemptible: bool | None = None
    ram_gb: float | None = Field(default=None, gt=0)
    disk_gb: float | None = Field(default=None, gt=0)
    zones: list[str] | None = Field(default=None, max_length=0)
    backend_parameters: dict[str, str] | None = Field(default=None, max_length=0)
    backend_parameters_strict: bool | None = None


class Task(Strict):
    """`POST /ga4gh/tes/v1/tasks`. What the TES sets itself (id, state, logs, creation_time) may not be sent."""

    name: Text | None = None
    description: Text | None = None
    inputs: list[Input] = Field(default_factory=list, max_length=100_000)
    outputs: list[Output] = Field(default_factory=list, max_length=100_000)
    resources: Resources | None = None
    executors: list[Executor] = Field(min_length=1, max_length=1)
    volumes: list[ContainerPath] | None = Field(default=None, max_length=50)
    tags: dict[Annotated[str, Field(min_length=1, max_length=100)], Annotated[str, Field(max_length=4000)]] = Field(
        default_factory=dict, max_length=50
    )
