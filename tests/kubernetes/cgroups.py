"""The control groups of a test cluster: one below the root of each hierarchy, a group in it for each node. Versions 1
and 2.
"""

from __future__ import annotations

import contextlib
import time
from pathlib import Path


def hierarchies() -> list[tuple[Path, str]]:
    """(mount point, `cgroup` or `cgroup2`) of each hierarchy of this machine."""
    lines = [line.split() for line in Path("/proc/self/mounts").read_text().splitlines()]
    return [(Path(fields[1]), fields[2]) for fields in lines if fields[2] in ("cgroup", "cgroup2")]


# A machine's worth of pods: without it all of them together have the weight of one session, as a shell has.
WEIGHTS = {"cpu.shares": "4096", "cpu.weight": "400"}  # four times of it, by version 1 and by version 2


class Cgroups:
    def __init__(self, name: str) -> None:
        self.name = name

    def make(self, nodes: list[str]) -> None:
        for mount, kind in hierarchies():
            if kind == "cgroup2":
                self._delegate(mount)
            for folder in (mount / self.name, *(mount / self.name / node for node in nodes)):
                folder.mkdir(exist_ok=True)
                for control in ("cpuset.cpus", "cpuset.mems"):  # version 1: a new group may run nowhere until told
                    if kind == "cgroup" and (folder / control).exists():
                        (folder / control).write_text((folder.parent / control).read_text())
                if kind == "cgroup2":
                    self._delegate(folder)
            for control, weight in WEIGHTS.items():
                if (mount / self.name / control).exists():
                    (mount / self.name / control).write_text(weight)

    @staticmethod
    def _delegate(folder: Path) -> None:
        for controller in (folder / "cgroup.controllers").read_text().split():
            with contextlib.suppress(OSError):
                (folder / "cgroup.subtree_control").write_text(f"+{controller}")

    def remove(self, seconds: float = 10) -> None:
        """Removes the groups, deepest first; a group is busy until the kernel has buried its last process."""
        deadline = time.monotonic() + seconds
        for mount, _ in hierarchies():
            top = mount / self.name
            while top.exists():
                folders = sorted((p for p in top.rglob("*") if p.is_dir()), key=lambda p: -len(p.parts))
                for folder in (*folders, top):
                    with contextlib.suppress(OSError):
                        folder.rmdir()
                if time.monotonic() > deadline:
                    return
                if top.exists():
                    time.sleep(0.1)
