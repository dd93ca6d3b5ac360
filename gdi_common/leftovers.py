"""What a task leaves in its folders, made safe for a service that opens paths there without looking: plain files and folders only.

Funnel stores outputs with os.Open: it would follow a link to any file of the host, and wait at a pipe for ever.
"""

from __future__ import annotations

import os
import secrets
import stat
from collections.abc import Sequence
from pathlib import Path

from gdi_common.tree import resolve_in_root


def make_plain(root: Path, folders: Sequence[Path]) -> int:
    """In `folders` (host paths below `root`, the task's own root folder) links to plain files of the task become those files; other links, pipes,
    sockets and devices are removed. How many were removed. Only safe while nothing of the task runs any more."""
    removed = 0
    for folder in folders:
        # os.walk does not enter linked folders; what cannot be read is left as it is, and cannot be read by the service either.
        for base, directories, files in os.walk(folder):
            for name in (*directories, *files):
                removed += not _plain(root, Path(base, name))
    return removed


def _plain(root: Path, path: Path) -> bool:
    mode = path.lstat().st_mode
    if stat.S_ISREG(mode) or stat.S_ISDIR(mode):
        return True
    target = _target(root, path) if stat.S_ISLNK(mode) else None
    if target is None:
        path.unlink()
        return False
    temporary = path.with_name(f".{secrets.token_hex(8)}")
    os.link(target, temporary, follow_symlinks=False)
    temporary.replace(path)
    return True


def _target(root: Path, link: Path) -> Path | None:
    """The plain file of the task to which the link leads, as the task sees it; None where there is none."""
    try:
        found = resolve_in_root(root, "/" + str(link.relative_to(root)))
        return found if stat.S_ISREG(found.lstat().st_mode) else None
    except OSError:  # no such file, too many links
        return None
