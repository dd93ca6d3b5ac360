"""The processes of a sandbox, as the host sees them in /proc."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from pathlib import Path

STOP_TRIES = 1000  # looks, a millisecond apart, until the kernel has stopped a process; then it is killed as it is
STOPPED = frozenset("TtZX")  # states of proc(5) in which a process makes no more children


def children_of(pid: int) -> list[int]:
    """The process ids of its children, sorted; none where it is gone."""
    try:
        return [int(p) for p in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        pass
    found = []  # kernels without CONFIG_PROC_CHILDREN
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError, ValueError, IndexError):
            if int(_after_name(stat)[1]) == pid:
                found.append(int(stat.parent.name))
    return sorted(found)


async def kill_group_and_children(pid: int) -> None:
    """SIGKILL for a bubblewrap, its group and its children, at whatever moment of its start.

    The child asks the kernel to die with its parent some time after it was made, and leaves its parent's group by
    itself: a SIGKILL of the group in between leaves it running, with the pipes in its hands. So the parent is stopped
    first and makes no more children. A PID namespace dies with its first process, which is such a child.
    """
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGSTOP)
        with contextlib.suppress(OSError, IndexError):  # it is gone
            for _ in range(STOP_TRIES):
                if _after_name(Path(f"/proc/{pid}/stat"))[0] in STOPPED:
                    break
                await asyncio.sleep(0.001)
    for child in children_of(pid):
        with contextlib.suppress(ProcessLookupError):
            os.kill(child, signal.SIGKILL)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGKILL)


def _after_name(stat: Path) -> list[str]:
    """The fields of proc(5)'s stat behind the name, which may hold anything: state, parent, group, …"""
    return stat.read_text().rsplit(")", 1)[1].split()
