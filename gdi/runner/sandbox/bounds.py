"""What all of a sandbox together may use, and who sees to it: a cgroup where one can be had, else the supervisor."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from gdi.runner.sandbox import cgroups, seccomp
from gdi.runner.sandbox.bubblewrap import Bubblewrap
from gdi.runner.sandbox.container import Engine
from gdi.runner.sandbox.supervisor import Bounds, stored


@dataclass(frozen=True)
class Enforced:
    """A sandbox's bounds as they are enforced. `enter` is called by its process before it becomes the sandbox;
    `supervised` is what is left to the supervisor, over `folders`.
    """

    supervised: Bounds
    folders: Sequence[Path]
    enter: Callable[[], None] | None = None


@asynccontextmanager
async def enforced(
    maker: Bubblewrap | Engine,
    bounds: Bounds,
    folders: Sequence[Path],
    *,
    cpus: float | None,
    processes: int | None,
    groups: cgroups.Cgroups | None,
) -> AsyncIterator[Enforced]:
    """While the sandbox lives. What lies in `folders` already, the inputs, does not count. `groups` None: the
    supervisor does what it can.
    """
    before, there = await asyncio.to_thread(stored, folders, Bounds())
    rest = replace(
        bounds,
        disk=None if bounds.disk is None else before + bounds.disk,
        files=None if bounds.files is None else there + bounds.files,
    )
    if groups is None or not isinstance(maker, Bubblewrap):
        yield Enforced(rest, folders)
        return
    group = groups.make(memory=bounds.memory, cpus=cpus, processes=processes)
    try:
        yield Enforced(replace(rest, memory=None), folders, group.enter)
    finally:
        await asyncio.to_thread(group.remove)


def unbounded(maker: Bubblewrap | Engine, groups: cgroups.Cgroups | None) -> list[str]:
    """What cannot be bounded here, each in a sentence, for the start and the status."""
    found = ["bytes and files of a task are measured from outside: it may be over its bound for a moment"]
    if not isinstance(maker, Bubblewrap):
        return [*found, f"memory and CPU of a task are left to {maker.kind}, which is given no bound"]
    if groups is None:
        found += [
            "CPU is not bounded: there is no cgroup to be had (run as root, or with systemd's Delegate=yes)",
            "memory is measured from outside: a task may be over its bound for a moment",
        ]
    elif missing := sorted(set(cgroups.WANTED) - groups.bounded):
        found.append(f"the cgroup bounds no {', '.join(missing)}")
    if seccomp.program() is None:
        found.append("system calls are not filtered: this machine's numbers are not known")
    return found
