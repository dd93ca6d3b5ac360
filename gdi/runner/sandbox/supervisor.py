"""What a sandbox uses, measured from outside and ended where it is too much: for machines where no cgroup can be had.

rlimits bound each process and each file; a task has many of both. So the supervisor adds them up: resident memory of
every process below the sandbox's own, bytes and files below the folders that it may write. A task may be over its bound
for as long as one look takes; what it wrote meanwhile is gone with its folder.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from gdi.runner.sandbox.processes import children_of

EVERY = 0.25  # seconds between looks
PAGE = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True)
class Bounds:
    """Of all processes of a sandbox together: resident memory and what they may store, in bytes, and files that they
    may store. None: no bound.
    """

    memory: int | None = None
    disk: int | None = None
    files: int | None = None


@dataclass(frozen=True)
class Use:
    """What is used now."""

    memory: int
    disk: int
    files: int


def measure(pid: int, folders: Sequence[Path], stop_at: Bounds) -> Use:
    """What the process `pid` and all below it use, and what lies in `folders`. It stops counting where a bound is
    passed. Memory that processes share counts for each of them.
    """
    memory = 0
    if stop_at.memory is not None:
        for each in descendants(pid):
            with contextlib.suppress(OSError, IndexError, ValueError):  # it is gone
                memory += int(Path(f"/proc/{each}/statm").read_text().split()[1]) * PAGE
    disk, files = stored(folders, stop_at)
    return Use(memory, disk, files)


def stored(folders: Sequence[Path], stop_at: Bounds) -> tuple[int, int]:
    """Bytes and files in folders, counted until a bound is passed."""
    disk, files = 0, 0
    for folder in folders:
        more_disk, more_files = _tree(folder, stop_at, disk, files)
        disk, files = disk + more_disk, files + more_files
    return disk, files


def descendants(pid: int) -> list[int]:
    """The process and all below it."""
    found, waiting = [], [pid]
    while waiting:
        each = waiting.pop()
        found.append(each)
        waiting += children_of(each)
    return found


def _tree(folder: Path, stop_at: Bounds, disk: int, files: int) -> tuple[int, int]:
    """Bytes (blocks that are taken, so that a hole costs nothing) and files below a folder; no link is followed."""
    size, count, waiting = 0, 0, [str(folder)]
    while waiting:
        try:
            with os.scandir(waiting.pop()) as entries:
                for entry in entries:
                    count += 1
                    info = entry.stat(follow_symlinks=False)
                    size += info.st_blocks * 512
                    if entry.is_dir(follow_symlinks=False):
                        waiting.append(entry.path)
                    if _over(stop_at.disk, disk + size) or _over(stop_at.files, files + count):
                        return size, count
        except OSError:
            continue  # removed meanwhile, or not to be read: a task can hide a folder from itself only
    return size, count


def _over(most: float | None, now: float) -> bool:
    return most is not None and now > most


def exceeded(use: Use, bounds: Bounds) -> str:
    """Which bound is passed, as a sentence; empty where none is."""
    for what, now, most, unit in (
        ("memory", use.memory, bounds.memory, "bytes"),
        ("disk", use.disk, bounds.disk, "bytes"),
        ("files", use.files, bounds.files, "files"),
    ):
        if most is not None and now > most:
            return f"ended: it used more {what} than the {most} {unit} that it may"
    return ""


async def supervise(pid: int, folders: Sequence[Path], bounds: Bounds) -> str:
    """Looks until a bound is passed, and says which: the caller ends the sandbox. Cancel it when that has ended."""
    while True:
        use = await asyncio.to_thread(measure, pid, folders, bounds)
        if problem := exceeded(use, bounds):
            return problem
        await asyncio.sleep(EVERY)
