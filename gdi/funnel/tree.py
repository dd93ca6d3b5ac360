"""Opening what a stranger's program left in a folder, as if that folder were the root: links never lead out of it.

A task may leave `out.txt -> /etc/shadow`; the service that uploads `out.txt` from outside must not follow it. Like
openat2(2) with RESOLVE_IN_ROOT, which is not allowed everywhere.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path, PurePosixPath

MAX_LINKS = 40  # as the kernel's own limit


class UnsafePathError(OSError):
    """A path that leads out of the root, through too many links, or to something that is no plain file or folder."""


def resolve_in_root(root: Path, path: str) -> Path:
    """The host path of `path` (absolute inside the root), all links resolved within the root; it may not exist.

    Only safe while nothing inside runs: use `open_in_root` for the file itself. UnsafePathError after too many links.
    """
    todo = [p for p in reversed(PurePosixPath(path).parts) if p != "/"]
    current = root
    links = 0
    while todo:
        part = todo.pop()
        if part == "..":
            current = current if current == root else current.parent
            continue
        step = current / part
        try:
            is_link = stat.S_ISLNK(step.lstat().st_mode)
        except (FileNotFoundError, NotADirectoryError):
            is_link = False
        if not is_link:
            current = step
            continue
        links += 1
        if links > MAX_LINKS:
            raise UnsafePathError(f"{path}: more than {MAX_LINKS} links")
        target = PurePosixPath(step.readlink())
        if target.is_absolute():
            current = root
        todo += [p for p in reversed(target.parts) if p != "/"]
    return current


def open_in_root(root: Path, path: str, flags: int = os.O_RDONLY, mode: int = 0o644) -> int:
    """A descriptor of the plain file `path` inside `root`, opened without following any link but those inside the root.

    FileNotFoundError as usual; UnsafePathError for a device, pipe or socket, or where a link was put in its way
    meanwhile.
    """
    resolved = resolve_in_root(root, path)
    descriptor = os.open(root, os.O_PATH | os.O_DIRECTORY)
    try:
        parts = resolved.relative_to(root).parts
        for part in parts[:-1]:
            inner = os.open(part, os.O_PATH | os.O_NOFOLLOW | os.O_DIRECTORY, dir_fd=descriptor)
            os.close(descriptor)
            descriptor = inner
        # O_NONBLOCK: a pipe without a writer must not hold the service; it is refused just below.
        opened = os.open(
            parts[-1] if parts else ".", flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, mode, dir_fd=descriptor
        )
    finally:
        os.close(descriptor)
    if not stat.S_ISREG(os.fstat(opened).st_mode):
        os.close(opened)
        raise UnsafePathError(f"{path}: not a plain file")
    return opened
