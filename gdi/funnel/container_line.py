"""The command lines by which Funnel asks for containers (`Worker.Container`), as its drivers here understand them.

Funnel makes the line from a template and splits it at white space: a task's `env: {"A": "x --volume /:/host:ro"}` would
mount the host. So every value comes percent-encoded (`urlquery` in the template) and is decoded here; only the command,
which Funnel does not split, comes as it is. RUN, PULL and STOP are those templates.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote_plus

# The literal {{.Command}} must be there.
RUN = (
    "run -i --read-only {{if .RemoveContainer}}--rm{{end}} {{range $k, $v := .Env}}--env {{urlquery $k}}={{urlquery"
    " $v}} {{end}} {{if .Name}}--name {{urlquery .Name}}{{end}} {{if .Workdir}}--workdir {{urlquery .Workdir}}{{end}}"
    " {{range .Volumes}}--volume {{urlquery .HostPath}}:{{urlquery .ContainerPath}}:{{if .Readonly}}ro{{else}}rw{{end}}"
    " {{end}} {{urlquery .Image}} {{.Command}}"
)
PULL = "pull {{urlquery .Image}}"
STOP = "rm -f {{urlquery .Name}}"
FAILED = 125  # docker's exit code where the container itself cannot be made
_FLAGS = {"-i", "--rm", "--read-only"}
_VALUED = {"--env", "--label", "--name", "--workdir", "--volume"}


@dataclass(frozen=True)
class Volume:
    """`source` in Funnel's folder of the task, `target` in the container."""

    source: Path
    target: str
    writable: bool


@dataclass
class Line:
    """What one `run` asks for."""

    image: str = ""
    command: list[str] = field(default_factory=list)
    name: str = ""
    workdir: str = "/"
    environment: dict[str, str] = field(default_factory=dict)
    volumes: list[Volume] = field(default_factory=list)

    def root(self, tasks: Path) -> Path:
        """The task's root folder: Funnel keeps the task's /p at WorkDir/TASK/p. ValueError for any other volume."""
        root = tasks / task_of(self.name)[0]
        for volume in self.volumes:
            if root == tasks or volume.source.resolve() != root.resolve() / volume.target.lstrip("/"):
                raise ValueError(f"the volume at {volume.target[:200]!r} is not of the task's own folder")
        return root


def parse(arguments: Sequence[str]) -> Line:
    """`[-i] [--rm] [--read-only] [--env K=V] [--label …] [--name N] [--workdir D] [--volume HOST:PATH:ro|rw] IMAGE
    COMMAND…`. ValueError.
    """
    line = Line()
    at = 0
    while at < len(arguments) and arguments[at] in _FLAGS | _VALUED:
        flag = arguments[at]
        at += 1
        if flag in _FLAGS:
            continue
        if at == len(arguments):
            raise ValueError(f"docker run: {flag} has no value")
        value = arguments[at]
        at += 1
        if flag == "--env":
            key, _, text = value.partition("=")
            line.environment[unquote_plus(key)] = unquote_plus(text)
        elif flag == "--name":
            line.name = unquote_plus(value)
        elif flag == "--workdir":
            line.workdir = unquote_plus(value)
        elif flag == "--volume":
            host, inside, mode = (unquote_plus(part) for part in value.rsplit(":", 2))
            line.volumes.append(Volume(Path(host), inside, writable=mode == "rw"))
    if at >= len(arguments):
        raise ValueError("docker run: no image was given")
    line.image, line.command = unquote_plus(arguments[at]), list(arguments[at + 1 :])
    return line


def named(arguments: Sequence[str]) -> str:
    """The image or name that `pull` and `rm -f` end with, or nothing."""
    return unquote_plus(arguments[-1]) if arguments else ""


def task_of(name: str) -> tuple[str, str]:
    """(task, number of its executor): Funnel names a container TASK-NUMBER. ValueError."""
    task, _, number = checked(name).rpartition("-")
    return task, number


def checked(name: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,100}", name):
        raise ValueError("a container's name has letters, digits and _.- only")
    return name
