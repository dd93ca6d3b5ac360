"""A task as the outside may send it: GA4GH TES 1.1 `tesTask`, without what has no use here. Unknown fields are
refused. What passed goes on as py-tes's `Task`.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field
from tes.models import Executor, Input, Output, Resources, Task

from gdi.kit.models import Strict

Text = Annotated[str, Field(max_length=4000)]
Url = Annotated[str, Field(max_length=2000)]
ContainerPath = Annotated[str, Field(min_length=1, max_length=1200)]
Kind = Literal["FILE", "DIRECTORY"]


class InputBody(Strict):
    name: Text | None = None
    description: Text | None = None
    url: Url | None = None
    path: ContainerPath
    type: Kind = "FILE"
    content: Annotated[str, Field(max_length=1024 * 1024)] | None = None
    streamable: bool | None = None


class OutputBody(Strict):
    name: Text | None = None
    description: Text | None = None
    url: Url
    path: ContainerPath
    path_prefix: str | None = None
    type: Kind = "FILE"


class ExecutorBody(Strict):
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


class ResourcesBody(Strict):
    cpu_cores: int | None = Field(default=None, ge=1)
    preemptible: bool | None = None
    ram_gb: float | None = Field(default=None, gt=0)
    disk_gb: float | None = Field(default=None, gt=0)
    zones: list[str] | None = Field(default=None, max_length=0)
    backend_parameters: dict[Text, Text] | None = Field(default=None, max_length=50)  # never passed on
    backend_parameters_strict: bool | None = None


class TaskBody(Strict):
    """`POST /ga4gh/tes/v1/tasks`. What the TES sets itself (id, state, logs, creation_time) may not be sent."""

    name: Text | None = None
    description: Text | None = None
    inputs: list[InputBody] = Field(default_factory=list, max_length=100_000)
    outputs: list[OutputBody] = Field(default_factory=list, max_length=100_000)
    resources: ResourcesBody | None = None
    executors: list[ExecutorBody] = Field(min_length=1, max_length=10)
    volumes: list[ContainerPath] | None = Field(default=None, max_length=50)
    tags: dict[Annotated[str, Field(min_length=1, max_length=100)], Annotated[str, Field(max_length=4000)]] = Field(
        default_factory=dict, max_length=50
    )

    def task(self) -> Task:
        """The same as py-tes has it; `inputs`, `outputs` and `tags` are there, where need be empty."""
        return Task(
            name=self.name,
            description=self.description,
            inputs=[Input(**vars(body)) for body in self.inputs],
            outputs=[Output(**vars(body)) for body in self.outputs],
            resources=Resources(**vars(self.resources)) if self.resources else None,
            executors=[Executor(**vars(body)) for body in self.executors],
            volumes=self.volumes,
            tags=self.tags,
        )
