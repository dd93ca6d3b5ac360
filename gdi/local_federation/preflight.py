"""What a federation on this machine needs, checked before anything starts: each failure says how to mend it."""

from __future__ import annotations

import os
import re
import shutil
import socket
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from gdi.local_federation.ports import Ports
from gdi.local_federation.tes import funnel
from gdi.runner.sandbox import Bubblewrap, SandboxUnavailableError, find_maker

NEEDED_DISK = 2 * 1024**3  # bytes: databases, logs and a small cohort; the cohort's own size comes on top
NEEDED_MEMORY = 3 * 1024**3
PROJECT = Path(__file__).resolve().parents[2]  # a wheel has neither DAGs nor workflows


@dataclass(frozen=True)
class MachineCheck:
    what: str
    mend: str


def _checkout(project: Path = PROJECT) -> MachineCheck | None:
    if missing := [name for name in ("dags", "plugins", "workflows") if not (project / name).is_dir()]:
        return MachineCheck(
            f"the federation runs in a checkout of the repository, and {project} has no {', '.join(missing)}",
            "Clone the repository and run it there: make demo",
        )
    return None


def _loopback() -> MachineCheck | None:
    try:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
    except OSError as error:
        return MachineCheck(
            f"no TCP port can be opened on 127.0.0.1 ({error})", "Bring the loopback interface up: ip link set lo up"
        )
    ports = Ports()
    try:
        ports.take()
    except OSError as error:
        return MachineCheck(str(error), "Stop programs that listen on ports 20000-31999.")
    finally:
        ports.release()
    return None


def _disk(work: Path) -> MachineCheck | None:
    folder = next(p for p in [work, *work.parents] if p.exists())
    if not os.access(folder, os.W_OK):
        return MachineCheck(f"{folder} is not writable", "Give another folder: --work-dir DIR")
    free = shutil.disk_usage(folder).free
    if free < NEEDED_DISK:
        return MachineCheck(
            f"{free / 1024**3:.1f} GiB free under {folder}, {NEEDED_DISK / 1024**3:.0f} GiB are needed",
            "Free some, or give another folder: --work-dir DIR",
        )
    if len(str(work)) > 60:
        return MachineCheck(
            f"the work folder's path has {len(str(work))} characters; unix sockets allow about 60",
            "Give a shorter one: --work-dir /tmp/gdi",
        )
    return None


def _memory() -> MachineCheck | None:
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemAvailable:") and int(line.split()[1]) * 1024 < NEEDED_MEMORY:
            return MachineCheck(
                f"{int(line.split()[1]) / 1024**2:.1f} GiB of memory available, 3 GiB are needed",
                "Close other programs.",
            )
    return None


def _sandbox() -> MachineCheck | None:
    try:
        maker = find_maker()
    except SandboxUnavailableError as error:
        return MachineCheck("sandboxes cannot be made here", str(error))
    if funnel.chosen() is not None and not isinstance(maker, Bubblewrap):
        return MachineCheck(
            f"real Funnel needs bubblewrap, and sandboxes are made by {maker.kind} here",
            f"Unset {funnel.VARIABLE}: the nodes then run the stand-in.",
        )
    return None


def _funnel(work: Path) -> MachineCheck | None:
    program = funnel.chosen()
    if program is None:
        return None
    mend = (
        f"Let {funnel.VARIABLE} name a Funnel that knows sda:// (its tag 2024-03-03), or unset it: then the nodes run"
        " the TES stand-in."
    )
    if not program.is_file() or not os.access(program, os.X_OK):
        return MachineCheck(
            f"{funnel.VARIABLE} names {program}, which is {'not executable' if program.is_file() else 'no file'}", mend
        )
    try:
        funnel.release(program)
    except (OSError, ValueError) as error:
        return MachineCheck(f"{funnel.VARIABLE} names a program that does not run as Funnel: {error}", mend)
    if re.search(r"\s", str(work)):
        return MachineCheck(
            f"the work folder's path {work} has white space, where Funnel cannot call its sandbox",
            "Give another: --work-dir /tmp/gdi",
        )
    return None


def check(work: Path) -> list[MachineCheck]:
    """Everything that is missing; empty where the federation can start."""
    checks: list[Callable[[], MachineCheck | None]] = [
        _checkout,
        _loopback,
        lambda: _disk(work),
        _memory,
        _sandbox,
        lambda: _funnel(work),
    ]
    return [finding for finding in (c() for c in checks) if finding is not None]
