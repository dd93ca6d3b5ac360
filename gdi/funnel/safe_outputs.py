"""What a task leaves in its folders, made safe for a service that opens paths there without looking: plain files and
folders only.

Funnel stores outputs with os.Open: it would follow a link to any file of the host, and wait at a pipe for ever.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import stat
from collections.abc import Sequence
from pathlib import Path

from gdi.funnel.tree import resolve_in_root


def make_plain(root: Path, folders: Sequence[Path]) -> int:
    """In `folders` (host paths below `root`, the task's own root folder) links to plain files of the task become those
    files; other links, pipes, sockets and devices are removed. How many were removed. Only safe while nothing of the
    task runs any more.

    OSError where a folder cannot be looked through: then nothing of it may be opened. (A folder of mode 0311 cannot be
    listed, and yet a link in it is followed by whoever knows its name; a task that runs as the same user may leave such
    ones. So they are made readable first.)
    """
    removed = 0
    for folder in folders:
        _open_up(folder)
        for base, directories, files in os.walk(folder, onerror=_refuse):  # does not enter linked folders
            for name in (*directories, *files):
                removed += not _plain(root, Path(base, name))
            # A link to a folder was among them and is gone: it is not to be entered.
            directories[:] = [name for name in directories if Path(base, name).is_dir()]
            for name in directories:
                _open_up(Path(base, name))
    return removed


def _open_up(folder: Path) -> None:
    """Lets the owner, who we are as well, list, enter and change it. Nothing where it is no folder."""
    with contextlib.suppress(FileNotFoundError):  # was a link to a folder, and removed as such
        mode = folder.lstat().st_mode
        if stat.S_ISDIR(mode) and not os.access(folder, os.R_OK | os.W_OK | os.X_OK, effective_ids=True):
            folder.chmod(stat.S_IMODE(mode) | stat.S_IRWXU)


def _refuse(error: OSError) -> None:
    raise error


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
