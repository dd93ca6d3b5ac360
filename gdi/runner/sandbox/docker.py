"""`docker run`-style command lines in the sandbox, for Funnel's `Worker.Container.DriverCommand`. Written for one node
by `write_driver`.

No network, an empty environment, a read-only root. Understood: `run` (gdi/funnel/container_line.py), `pull IMAGE`, `rm
-f NAME`. Exit codes are docker's: 125 where the container cannot be made.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import fnmatch
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gdi.funnel.container_line import FAILED, checked, named, parse
from gdi.funnel.safe_outputs import make_plain
from gdi.runner.sandbox.bubblewrap import find_bwrap
from gdi.runner.sandbox.spec import DEFAULT_PATH, Bind, Sandbox, SandboxLimits, SandboxUnavailableError

PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36
_libc = ctypes.CDLL(None)


@dataclass(frozen=True)
class DriverImage:
    """An entry of the image table: the first whose shell pattern `match` fits is taken; none: the image is not run
    here.
    """

    match: str
    folders: Sequence[Path] = ()
    path: str = DEFAULT_PATH


def write_driver(
    script: Path,
    images: Sequence[DriverImage],
    *,
    tasks: Path | None = None,
    slots: int = 16,
    python: str = sys.executable,
    limits: SandboxLimits | None = None,
) -> Path:
    """Writes the program that Funnel calls, and beside it its settings and a folder of what runs. The path must hold no
    white space: Funnel splits there.

    `tasks` is Funnel's Worker.WorkDir: a task gets volumes of its own folder `tasks/ID` only, which holds plain files
    and folders only when it has ended. At most `slots` run at once, the others wait: Funnel's local compute starts
    every task as it comes.
    """
    if re.search(r"\s", str(script)):
        raise ValueError(
            f"{script}: Funnel cannot call a program whose path has white space; choose another work folder"
        )
    settings = script.with_suffix(".json")
    running = script.with_suffix(".running")
    running.mkdir(exist_ok=True, mode=0o700)
    limits = limits or SandboxLimits()
    settings.write_text(
        json.dumps(
            {
                "bwrap": str(find_bwrap()),
                "running": str(running),
                "tasks": str(tasks) if tasks else None,
                "slots": slots,
                "images": [{"match": i.match, "folders": [str(f) for f in i.folders], "path": i.path} for i in images],
                "limits": {
                    "file_size": limits.file_size,
                    "processes": limits.processes,
                    "address_space": limits.address_space,
                },
            }
        )
    )
    script.write_text(
        f'#!/bin/sh\nexec {shlex.quote(python)} -m gdi.runner.sandbox.docker {shlex.quote(str(settings))} "$@"\n'
    )
    script.chmod(0o755)
    return script


def main(arguments: list[str]) -> int:
    settings: dict[str, Any] = json.loads(Path(arguments[0]).read_text())
    verb, rest = (arguments[1], arguments[2:]) if len(arguments) > 1 else ("version", [])
    try:
        if verb == "run":
            return _run(settings, rest)
        elif verb == "pull":
            _image(settings, named(rest))
        elif verb == "rm":
            _remove(settings, named(rest))
    except (ValueError, OSError, SandboxUnavailableError) as error:
        print(f"sandbox: {error}", file=sys.stderr)
        return FAILED
    return 0


def _run(settings: dict[str, Any], arguments: list[str]) -> int:
    """Runs the sandbox to its end, which comes at once when this process is killed; its exit code."""
    line = parse(arguments)
    image = _image(settings, line.image)
    root = line.root(Path(settings["tasks"])) if settings["tasks"] else None
    binds = [Bind(v.source, v.target, writable=v.writable) for v in line.volumes]
    writable = [b.source for b in binds if b.writable]
    # Parents first, so that a read-only input inside a writable folder stays read-only and visible.
    binds.sort(key=lambda b: b.target)
    binds += [Bind(Path(folder), folder) for folder in image["folders"]]
    box = Sandbox(
        binds=binds,
        workdir=line.workdir,
        environment=line.environment,
        path=image["path"],
        limits=SandboxLimits(**settings["limits"]),
    )
    argv = box.argv(Path(settings["bwrap"]), line.command)
    if line.name:
        _mark(settings, line.name).write_text(f"{os.getpid()} {_started(os.getpid())}")
    _die_with_parent()  # Funnel's end is its tasks' end
    _libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    with _slot(settings):
        code = subprocess.Popen(argv, env={}, preexec_fn=_die_with_parent).wait()  # nothing of Funnel's environment
        # bubblewrap ends with the command; what the command left running lives until the sandbox's first process is
        # gone, which comes to us.
        with contextlib.suppress(ChildProcessError):
            while True:
                os.waitpid(-1, 0)
    if root is not None and (removed := make_plain(root, writable)):
        print(f"sandbox: {removed} links or pipes that are no file of this task were removed", file=sys.stderr)
    return code if code >= 0 else 128 - code


@contextlib.contextmanager
def _slot(settings: dict[str, Any]) -> Iterator[None]:
    """One of the node's slots, for as long as it takes. The kernel gives it back however this process ends."""
    with contextlib.ExitStack() as stack:
        files = [
            stack.enter_context(Path(settings["running"], f".slot-{number}").open("w"))
            for number in range(settings["slots"])
        ]
        while not any(_locked(file.fileno()) for file in files):
            time.sleep(0.2)
        yield


def _locked(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _die_with_parent() -> None:
    _libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


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
    return Path(settings["running"]) / checked(name)


def _started(number: int) -> str:
    """When the process began, in clock ticks since boot: proc_pid_stat(5), field 22."""
    return Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()[19]


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
