"""What a client may send: the create request of GA4GH TES 1.1.0 (openapi `tesTask`), validated at the edge."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from gdi.runner.sandbox.spec import checked_name

# A task's paths lie beside the system's folders, never in them.
SYSTEM_FOLDERS = (
    "usr",
    "bin",
    "sbin",
    "lib",
    "lib32",
    "lib64",
    "libx32",
    "etc",
    "proc",
    "dev",
    "sys",
    "var",
    "run",
    "boot",
)
MAX_INLINE = 128 * 1024  # what the specification guarantees
WILDCARDS = frozenset("*?[")


def _path(value: str) -> str:
    path = PurePosixPath(value)
    if not value.startswith("/") or ".." in path.parts or "\0" in value or len(value) > 4096:
        raise ValueError("must be an absolute path without '..'")
    parts = [p for p in path.parts if p.strip("/")]
    if not parts or parts[0] in SYSTEM_FOLDERS:
        raise ValueError(f"must not lie in the system's folders (/{', /'.join(SYSTEM_FOLDERS)})")
    return "/" + "/".join(parts)


def _file_path(value: str) -> str:
    path = _path(value)
    if path.count("/") < 2:
        raise ValueError("must lie in a folder (such as /data/x): the root itself is read-only")
    return path


Path = Annotated[str, AfterValidator(_path)]
FilePath = Annotated[str, AfterValidator(_file_path)]
Text = Annotated[str, Field(max_length=20_000)]
Url = Annotated[str, Field(min_length=1, max_length=8192, pattern=r"^[a-z][a-z0-9+.-]{0,20}://[^\x00-\x1f\x7f]+$")]


class Lenient(BaseModel):
    """Unknown fields are ignored, as TES servers do."""

    model_config = ConfigDict(extra="ignore")


class Input(Lenient):
    name: Text | None = None
    description: Text | None = None
    url: Url | None = None
    path: FilePath
    type: Literal["FILE", "DIRECTORY"] = "FILE"
    content: Annotated[str, Field(max_length=MAX_INLINE)] | None = None
    streamable: bool | None = None

    @model_validator(mode="after")
    def _one_source(self) -> Input:
        if (self.url is None) == (self.content is None):
            raise ValueError("an input has either url or content")
        if self.content is not None and self.type == "DIRECTORY":
            raise ValueError("an inline input is a FILE")
        return self


class Output(Lenient):
    name: Text | None = None
    description: Text | None = None
    url: Url
    path: FilePath
    path_prefix: Path | None = None
    type: Literal["FILE", "DIRECTORY"] = "FILE"

    @model_validator(mode="after")
    def _prefix(self) -> Output:
        if WILDCARDS & set(self.path) and self.path_prefix is None:
            raise ValueError("a path with wildcards needs path_prefix")
        if self.path_prefix is not None and not self.path.startswith(self.path_prefix.rstrip("/") + "/"):
            raise ValueError("path does not begin with path_prefix")
        return self

    @property
    def wild(self) -> bool:
        return self.path_prefix is not None and bool(WILDCARDS & set(self.path))


class TaskExecutor(Lenient):
    image: Annotated[str, Field(min_length=1, max_length=1024)]
    command: Annotated[list[str], Field(min_length=1, max_length=10_000)]
    workdir: Path | None = None
    stdin: FilePath | None = None
    stdout: FilePath | None = None
    stderr: FilePath | None = None
    env: dict[Annotated[str, AfterValidator(checked_name)], Annotated[str, Field(max_length=100_000)]] | None = None
    ignore_error: bool | None = None


class Resources(Lenient):
    cpu_cores: Annotated[int, Field(ge=0, le=1_000_000)] | None = None
    preemptible: bool | None = None
    ram_gb: Annotated[float, Field(ge=0, le=1_000_000)] | None = None
    disk_gb: Annotated[float, Field(ge=0, le=10_000_000)] | None = None
    zones: Annotated[list[Text], Field(max_length=100)] | None = None
    backend_parameters: dict[str, str] | None = None
    backend_parameters_strict: bool | None = None


class Task(Lenient):
    """A task as it is created; `id`, `state`, `logs` and `creation_time` are the server's and ignored here."""

    name: Text | None = None
    description: Text | None = None
    inputs: Annotated[list[Input], Field(max_length=100_000)] | None = None
    outputs: Annotated[list[Output], Field(max_length=100_000)] | None = None
    resources: Resources | None = None
    executors: Annotated[list[TaskExecutor], Field(min_length=1, max_length=100)]
    volumes: Annotated[list[FilePath], Field(max_length=100)] | None = None
    tags: (
        Annotated[
            dict[Annotated[str, Field(max_length=256)], Annotated[str, Field(max_length=4096)]], Field(max_length=100)
        ]
        | None
    ) = None

    def stored(self) -> str:
        """The task as JSON, as it is given back in the FULL view."""
        return self.model_dump_json(exclude_none=True)

    def basic(self) -> str:
        """The same without inline contents: the BASIC view."""
        return self.model_dump_json(exclude_none=True, exclude={"inputs": {"__all__": {"content"}}})


def without_fragment(url: str) -> str:
    """A URL as it may be logged: what follows the last `#` is a credential."""
    return url.rpartition("#")[0] or url
