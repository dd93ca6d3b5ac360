"""A task's own folder at the host: which paths of the task it stands for, and the sandbox made of it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gdi.local_federation.tes.config import Image, LimitsConfig
from gdi.local_federation.tes.models import Task, TaskExecutor
from gdi.runner.sandbox import Bind, Sandbox, SandboxLimits
from gdi.runner.sandbox.spec import DEFAULT_PATH

OPEN_FILES = 4096


@dataclass(frozen=True)
class TaskFolder:
    """`home/root/gdi/work/x` is `/gdi/work/x` of the task. Every first folder that the task names is writable, its
    inputs are read-only; /tmp is on disk.
    """

    home: Path
    task: Task

    @property
    def root(self) -> Path:
        return self.home / "root"

    def create(self) -> None:
        """Made anew, empty, with the folders of all outputs, streams, volumes and work directories."""
        remove(self.home)
        self.home.mkdir(parents=True, mode=0o700)
        (self.root / "tmp").mkdir(parents=True)
        for path in self._folders():
            self.host(path).mkdir(parents=True, exist_ok=True)

    def host(self, path: str) -> Path:
        """Only for paths that no program of the task has had in its hands: for others `open_in_root`."""
        return self.root / path.lstrip("/")

    def sandbox(self, executor: TaskExecutor, image: Image, limits: LimitsConfig) -> Sandbox:
        tops = sorted({p.split("/")[1] for p in self._folders()} - {"tmp"})
        binds = [Bind(self.root / top, f"/{top}", writable=True) for top in tops]
        # Parents first, so that an input inside another one stays visible.
        binds += [Bind(self.host(i.path), i.path) for i in sorted(self.task.inputs or [], key=lambda i: i.path)]
        binds += [Bind(folder, str(folder)) for folder in image.folders]
        ram = self.task.resources.ram_gb if self.task.resources and limits.enforce_ram else None
        return Sandbox(
            binds=binds,
            workdir=executor.workdir or "/",
            environment=executor.env or {},
            path=image.path or DEFAULT_PATH,
            tmp=self.root / "tmp",
            limits=SandboxLimits(
                address_space=int(ram * 1e9) if ram else None,
                file_size=limits.disk_bytes,
                processes=limits.processes,
                open_files=OPEN_FILES,
            ),
        )

    def _folders(self) -> list[str]:
        task = self.task
        parents = [i.path for i in task.inputs or []]
        for output in task.outputs or []:
            parents.append(output.path_prefix.rstrip("/") + "/x" if output.wild and output.path_prefix else output.path)
        for executor in task.executors:
            parents += [p for p in (executor.stdin, executor.stdout, executor.stderr) if p]
        folders = (
            [p.rpartition("/")[0] for p in parents]
            + list(task.volumes or [])
            + [e.workdir for e in task.executors if e.workdir]
        )
        folders += [o.path for o in task.outputs or [] if o.type == "DIRECTORY" and not o.wild]
        return [f for f in folders if f.strip("/")]


def remove(folder: Path) -> None:
    """Deletes what a task left, also folders it made unreadable; links are removed, not followed."""

    def again(call: Callable[..., Any], path: str, _: object) -> None:
        for locked in (Path(path).parent, Path(path)):
            if locked.is_dir() and not locked.is_symlink() and locked.is_relative_to(folder):
                locked.chmod(0o700)
        if call in (os.scandir, os.open, os.lstat):
            shutil.rmtree(path)
        else:
            call(path)

    if folder.exists():
        shutil.rmtree(folder, onerror=again)
