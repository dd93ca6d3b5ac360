"""A cgroup of its own for each sandbox, where they can be had: as root (v1 or v2), or in a v2 subtree that is delegated
to this user (systemd's `Delegate=yes`). The kernel then bounds memory, CPU and processes of all of the sandbox
together. cgroups(7), Documentation/admin-guide/cgroup-v2.rst.
"""

from __future__ import annotations

import contextlib
import functools
import os
import time
import uuid
from dataclasses import dataclass
from pathlib import Path

ROOT = Path("/sys/fs/cgroup")
WANTED = ("memory", "pids", "cpu")
PERIOD = 100_000  # microseconds: the CPU's share is counted in these
GONE_SECONDS = 2.0


@dataclass(frozen=True)
class Cgroups:
    """The folders below which a sandbox's groups are made, by controller: in v2 one for all."""

    version: int
    folders: dict[str, Path]

    @property
    def bounded(self) -> frozenset[str]:
        return frozenset(self.folders)

    def make(self, *, memory: int | None, cpus: float | None, processes: int | None) -> Cgroup:
        """A new group with these bounds. OSError where the kernel refuses."""
        name = f"gdi-{uuid.uuid4().hex}"
        paths = {controller: folder / name for controller, folder in self.folders.items()}
        group = Cgroup(tuple(dict.fromkeys(paths.values())))
        try:
            for path in group.paths:
                path.mkdir()
            if memory is not None and "memory" in paths:
                if self.version == 2:
                    _set(paths["memory"], "memory.max", memory)
                    _set(paths["memory"], "memory.swap.max", 0, needed=False)
                    _set(paths["memory"], "memory.oom.group", 1, needed=False)
                else:
                    _set(paths["memory"], "memory.limit_in_bytes", memory)
                    _set(paths["memory"], "memory.memsw.limit_in_bytes", memory, needed=False)
            if processes is not None and "pids" in paths:
                _set(paths["pids"], "pids.max", processes)
            if cpus is not None and "cpu" in paths:
                quota = max(1000, int(cpus * PERIOD))
                if self.version == 2:
                    _set(paths["cpu"], "cpu.max", f"{quota} {PERIOD}")
                else:
                    _set(paths["cpu"], "cpu.cfs_period_us", PERIOD)
                    _set(paths["cpu"], "cpu.cfs_quota_us", quota)
        except OSError:
            group.remove()
            raise
        return group


@dataclass(frozen=True)
class Cgroup:
    paths: tuple[Path, ...]

    def enter(self) -> None:
        """Puts this very process into the group: between fork and exec, so before anything of the sandbox runs."""
        for path in self.paths:
            (path / "cgroup.procs").write_text("0")

    def remove(self) -> None:
        """Removes the group, once the last process of it is gone."""
        until = time.monotonic() + GONE_SECONDS
        for path in self.paths:
            while path.is_dir():
                try:
                    path.rmdir()
                except OSError:
                    if time.monotonic() > until:
                        break
                    time.sleep(0.01)


def _set(folder: Path, name: str, value: object, *, needed: bool = True) -> None:
    with contextlib.nullcontext() if needed else contextlib.suppress(OSError):
        (folder / name).write_text(str(value))


@functools.cache
def find(root: Path = ROOT) -> Cgroups | None:
    """What can be had here, tried by making a group; None where that is nothing."""
    found = _second(root) if (root / "cgroup.controllers").exists() else _first(root)
    if found is None:
        return None
    try:
        found.make(memory=64 * 1024 * 1024, cpus=1, processes=64).remove()
    except OSError:
        return None
    return found


def _own(root: Path, controller: str = "") -> Path | None:
    """This process's own group."""
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        _, names, path = line.split(":", 2)
        if (not controller and not names) or controller in names.split(","):
            return root / path.lstrip("/")
    return None


def _second(root: Path) -> Cgroups | None:
    own = _own(root)
    for folder in [own, *own.parents] if own else []:
        if not folder.is_relative_to(root) or not os.access(folder, os.W_OK):
            continue
        # A group with processes in it gives no controllers to its children, but for the root.
        with contextlib.suppress(OSError):
            (folder / "cgroup.subtree_control").write_text(" ".join(f"+{name}" for name in WANTED))
        given = (folder / "cgroup.subtree_control").read_text().split()
        if "memory" in given:
            return Cgroups(2, {name: folder for name in WANTED if name in given})
    return None


def _first(root: Path) -> Cgroups | None:
    folders = {}
    for name in WANTED:
        own = _own(root / name, name)
        for folder in [own, root / name] if own else []:
            if folder.is_dir() and os.access(folder, os.W_OK):
                folders[name] = folder
                break
    return Cgroups(1, folders) if "memory" in folders else None
