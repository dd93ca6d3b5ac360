"""What killed federations of this user left on this machine, and nothing of any that lives: locks that the kernel gives
back tell the two apart.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import socket
import stat
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from gdi.local_federation.ports import FIRST, LAST
from gdi.runner.sandbox import Engine, Maker, container

TEMPORARY = "temporary"  # marks a work folder that nobody asked to keep
KEPT = ("answer.tsv", "answer.png", "logs")
YOUNG = 60  # seconds: what is younger may be somebody's who is just starting


class InUseError(OSError):
    """Another launcher works in the folder."""


def hold(work: Path) -> int:
    """Locks a work folder for one launcher; the descriptor holds the lock, and the kernel gives it back however the
    process ends. InUseError.
    """
    handle = os.open(work, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(handle)
        raise InUseError(
            f"{work} is used by another federation that runs; stop it (gdi down --work-dir {work}) or give another"
            " --work-dir"
        ) from None
    return handle


def tidy(work: Path) -> None:
    """Of a work folder that nobody asked to keep, what is worth keeping: the answer, or, where there is none, the
    logs.
    """
    answered = (work / "answer.tsv").exists()
    kept = [name for name in KEPT if (name == "logs") != answered]
    for part in work.iterdir():
        if part.name not in kept:
            shutil.rmtree(part) if part.is_dir() and not part.is_symlink() else part.unlink()


def sweep(maker: Maker) -> None:
    """Safe at any time, beside any number of federations. What cannot be removed is left."""
    temporary = Path(tempfile.gettempdir())
    for folder in _mine(temporary.glob("gdi-*"), stat.S_ISDIR):
        if (folder / TEMPORARY).exists():
            with contextlib.suppress(OSError):
                handle = hold(folder)
                try:
                    tidy(folder)
                finally:
                    os.close(handle)
    # where SeaweedFS puts them, whatever TMPDIR says
    for left in _mine(Path("/tmp").glob("seaweedfs-*-*.sock"), stat.S_ISSOCK):  # noqa: S108
        port = left.stem.rpartition("-")[2]
        if port.isdigit() and FIRST <= int(port) <= LAST and _nobody_listens(left):
            left.unlink(missing_ok=True)
    if isinstance(maker, Engine):
        container.sweep(maker)


def _mine(paths: Iterator[Path], kind: Callable[[int], bool]) -> list[Path]:
    """Those of this kind and user that are not being made just now."""
    found = []
    for path in paths:
        with contextlib.suppress(OSError):
            known = path.lstat()
            if known.st_uid == os.geteuid() and kind(known.st_mode) and time.time() - known.st_mtime > YOUNG:
                found.append(path)
    return found


def _nobody_listens(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(1)
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            return True
        except OSError:
            return False
    return False
