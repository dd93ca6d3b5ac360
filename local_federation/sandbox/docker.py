"""`docker run`-style command lines in the sandbox, for Funnel's `Worker.Container.DriverCommand`. Written for one node by `write_driver`.

No network, an empty environment, a read-only root. Understood: `run [-i] [--rm] [--read-only] [--env K=V] [--label …] [--name N] [--workdir D]
[--volume HOST:PATH:ro|rw] IMAGE COMMAND…`, `pull IMAGE`, `rm -f NAME`. Exit codes are docker's: 125 where the container cannot be made.
"""

from __future__ import annotations

import fnmatch
import json
import os
import re
import shlex
import signal
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from local_federation.sandbox.bubblewrap import SandboxUnavailableError, find_bwrap
from local_federation.sandbox.spec import DEFAULT_PATH, Bind, Limits, Sandbox

FLAGS = {"-i", "--rm", "--read-only"}
VALUED = {"--env", "--label", "--name", "--workdir", "--volume"}
FAILED = 125


@dataclass(frozen=True)
class DriverImage:
    """An entry of the image table: the first whose shell pattern `match` fits is taken; none: the image is not run here."""

    match: str
    folders: Sequence[Path] = ()
    path: str = DEFAULT_PATH


def write_driver(script: Path, images: Sequence[DriverImage], *, python: str = sys.executable, limits: Limits | None = None) -> Path:
    """Writes the program that Funnel calls, and beside it its settings and a folder of what runs. The path must hold no white space: Funnel splits there."""
    if re.search(r"\s", str(script)):
        raise ValueError(f"{script}: Funnel cannot call a program whose path has white space; choose another work folder")
    settings = script.with_suffix(".json")
    running = script.with_suffix(".running")
    running.mkdir(exist_ok=True, mode=0o700)
    limits = limits or Limits()
    settings.write_text(
        json.dumps(
            {
                "bwrap": str(find_bwrap()),
                "running": str(running),
                "images": [{"match": i.match, "folders": [str(f) for f in i.folders], "path": i.path} for i in images],
                "limits": {"file_size": limits.file_size, "processes": limits.processes, "address_space": limits.address_space},
            }
        )
    )
    script.write_text(f'#!/bin/sh\nexec {shlex.quote(python)} -m local_federation.sandbox.docker {shlex.quote(str(settings))} "$@"\n')
    script.chmod(0o755)
    return script


def main(arguments: list[str]) -> int:
    settings: dict[str, Any] = json.loads(Path(arguments[0]).read_text())
    verb, rest = (arguments[1], arguments[2:]) if len(arguments) > 1 else ("version", [])
    try:
        if verb == "run":
            _run(settings, rest)
        elif verb == "pull":
            _image(settings, rest[-1] if rest else "")
        elif verb == "rm":
            _remove(settings, rest[-1] if rest else "")
    except (ValueError, SandboxUnavailableError) as error:
        print(f"sandbox: {error}", file=sys.stderr)
        return FAILED
    return 0


def _run(settings: dict[str, Any], arguments: list[str]) -> None:
    """Becomes the sandbox; does not return."""
    name, workdir, environment, binds = "", "/", dict[str, str](), list[Bind]()
    at = 0
    while at < len(arguments) and arguments[at] in FLAGS | VALUED:
        flag = arguments[at]
        at += 1
        if flag in FLAGS:
            continue
        value = arguments[at]
        at += 1
        if flag == "--env":
            key, _, text = value.partition("=")
            environment[key] = text
        elif flag == "--name":
            name = value
        elif flag == "--workdir":
            workdir = value
        elif flag == "--volume":
            host, inside, mode = value.rsplit(":", 2)
            binds.append(Bind(Path(host), inside, writable=mode == "rw"))
    if at >= len(arguments):
        raise ValueError("docker run: no image was given")
    image = _image(settings, arguments[at])
    # Parents first, so that a read-only input inside a writable folder stays read-only and visible.
    binds.sort(key=lambda b: b.target)
    binds += [Bind(Path(folder), folder) for folder in image["folders"]]
    box = Sandbox(binds=binds, workdir=workdir, environment=environment, path=image["path"], limits=Limits(**settings["limits"]))
    argv = box.argv(Path(settings["bwrap"]), arguments[at + 1 :])
    if name:
        _mark(settings, name).write_text(f"{os.getpid()} {_started(os.getpid())}")
    os.execve(argv[0], argv, {})  # noqa: S606 - no shell, and nothing of Funnel's environment


def _image(settings: dict[str, Any], name: str) -> dict[str, Any]:
    for image in settings["images"]:
        if fnmatch.fnmatchcase(name, image["match"]):
            found: dict[str, Any] = image
            return found
    raise ValueError(f"the image {name[:200]!r} is not one that this node runs")


def _remove(settings: dict[str, Any], name: str) -> None:
    """Kills the sandbox of that name, if it still runs: the process number alone might be another's by now."""
    mark = _mark(settings, name)
    try:
        number, started = mark.read_text().split()
        if _started(int(number)) == started:
            os.kill(int(number), signal.SIGKILL)
    except (OSError, ValueError):
        pass
    mark.unlink(missing_ok=True)


def _mark(settings: dict[str, Any], name: str) -> Path:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,100}", name):
        raise ValueError("a container's name has letters, digits and _.- only")
    return Path(settings["running"]) / name


def _started(number: int) -> str:
    """When the process began, in clock ticks since boot: proc_pid_stat(5), field 22."""
    return Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()[19]


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
