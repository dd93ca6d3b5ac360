"""The files that lie with a workflow: what a task may read beside its inputs, within bounds, and what was left out.

A symbolic link within the project stays a link, so that a script behind it finds its modules; one that leads out of it
is followed.
"""

from __future__ import annotations

import contextlib
import fnmatch
import os
import sys
import sysconfig
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

MAX_FILES = 500  # of one project; the nearest ones first
MAX_TOTAL = 256 * 1024 * 1024  # bytes of all of them
MAX_SHARES = 12  # all of them are at most so many times the largest one: a gateway takes 64 MiB in all
MAX_LOOKED_AT = 20_000  # entries of folders
LOGS = ("*.log", "nohup.out", "slurm-*.out")  # what starts leave behind; another one at each start
KEYS = (  # nobody sends these by accident
    *("*.pem", "*.key", "*.p12", "*.pfx", "*.kdbx", "id_rsa*", "id_ecdsa*", "id_ed25519*"),
    *("*.jwt", "*.token", "kubeconfig*", "credentials.json", "credentials.toml", "credentials.yaml"),
)
_SYSTEM = ("/usr", "/bin", "/sbin", "/lib", "/lib64", "/etc", "/opt", "/proc", "/sys", "/dev", "/run", "/var", "/boot")


def being_written() -> set[Path]:
    """The files that this process has open for writing: its log, its events. proc_pid_fd(5), proc_pid_fdinfo(5)."""
    found = set()
    for link in Path("/proc/self/fd").glob("*"):
        with contextlib.suppress(OSError, ValueError, StopIteration):
            lines = Path("/proc/self/fdinfo", link.name).read_text().splitlines()
            flags = next(int(line.split()[1], 8) for line in lines if line.startswith("flags:"))
            if flags & os.O_ACCMODE != os.O_RDONLY:
                found.add(link.readlink())
    return found


def is_key(path: Path) -> bool:
    """Whether its name is that of a private key."""
    return any(fnmatch.fnmatch(path.name, key) for key in KEYS)


def foreign(path: Path) -> bool:
    """Whether a file belongs to the system, to Python or to a hidden folder, and so to no workflow."""
    installed = (sys.prefix, sys.base_prefix, sysconfig.get_path("stdlib"), str(Path(__file__).parents[2]))
    if any(p.startswith(".") or p == "__pycache__" for p in path.parts):
        return True
    return any(path.is_relative_to(folder) for folder in (*_SYSTEM, *installed))


@dataclass
class Project:
    """`roots`: the Snakefile's folder and the working directory. `limit`: bytes of one file. `patterns`: globs below a
    root that add files, or leave them out with `!` before them. `never`: files that hold this process's credentials.
    `follow_out`: whether links may lead out of the roots.
    """

    roots: tuple[Path, ...]
    limit: int
    patterns: tuple[str, ...] = ()
    never: frozenset[Path] = frozenset()
    follow_out: bool = True
    left_out: dict[Path, str] = field(default_factory=dict)
    links: dict[Path, Path] = field(default_factory=dict)  # link -> where it leads, both absolute

    def root_of(self, path: Path) -> Path | None:
        return next((root for root in self.roots if path.is_relative_to(root)), None)

    def allows(self, path: Path) -> bool:
        """Whether a task may be given this file by its place and its name."""
        root = self.root_of(path)
        if root is None or ".." in path.parts or self._unwanted(path, root):
            return False
        return self._added(path, root) or not _hidden(path, root)

    def withheld(self, path: Path) -> str:
        """Why no task gets this file, whoever names it: it holds a credential, or a link leads out where none may; ""
        where one may.
        """
        real = path.resolve()
        if path in self.never or real in self.never:
            return "it holds a credential of this process"
        if not self.follow_out and not any(real.is_relative_to(root.resolve()) for root in self.roots):
            return "it is a link that leads out of the workflow"
        return ""

    @cached_property
    def files(self) -> frozenset[Path]:
        """The project's files; `links` and `left_out` are complete afterwards."""
        found: list[Path] = []
        written = being_written()
        total, most = 0, min(MAX_TOTAL, MAX_SHARES * self.limit)
        for path in self._walk():
            if path in found or not self.allows(path):
                continue
            root = self.root_of(path)
            size = path.stat().st_size
            added = root is not None and self._added(path, root)
            if why := self.withheld(path):
                self.left_out[path] = why
            elif not added and is_key(path):
                self.left_out[path] = "its name is that of a key"
            elif not added and (path in written or any(fnmatch.fnmatch(path.name, name) for name in LOGS)):
                self.left_out[path] = "it is a log"
            elif size > self.limit:
                self.left_out[path] = f"it has {size} bytes, more than {self.limit}"
            elif total + size > most or len(found) >= MAX_FILES:
                self.left_out[path] = f"there are more than {MAX_FILES} files or {most} bytes"
            else:
                found.append(path)
                total += size
        return frozenset(found)

    def links_to(self, files: Iterable[Path]) -> list[tuple[str, str]]:
        """The links that lead to one of these files or to a folder of theirs, as (path, target as it is written)."""
        if not self.links:
            return []
        wanted = {p for f in files for p in (f, *f.parents)}
        chosen = {link for link, target in self.links.items() if target in wanted}
        while more := {link for link, target in self.links.items() if target in chosen} - chosen:
            chosen |= more
        return sorted((str(link), str(link.readlink())) for link in chosen)

    def through(self, path: Path) -> Path:
        """Where a path leads; the links on the way are remembered."""
        seen = 0
        while seen < 40 and (link := next((p for p in (*reversed(path.parents), path) if self._is_link(p)), None)):
            target = Path(os.path.normpath(link.parent / link.readlink()))
            if self.root_of(target) is None:
                return path
            self.links[link] = target
            path = target / path.relative_to(link)
            seen += 1
        return path

    def _is_link(self, path: Path) -> bool:
        return self.root_of(path) is not None and path.is_symlink()

    def _walk(self) -> Iterator[Path]:
        """Plain files below the roots, nearest first."""
        queue: deque[Path] = deque(root for root in self.roots if root.is_dir())
        seen: set[Path] = set()
        looked_at = 0
        while queue:
            folder = queue.popleft()
            real = folder.resolve()
            if real in seen:
                continue
            seen.add(real)
            try:
                entries = sorted(folder.iterdir())
            except OSError:
                continue
            for path in entries:
                looked_at += 1
                if looked_at > MAX_LOOKED_AT:
                    self.left_out[folder] = f"more than {MAX_LOOKED_AT} entries lie before it"
                    return
                yield from self._entry(path, queue)

    def _entry(self, path: Path, queue: deque[Path]) -> Iterator[Path]:
        if path.is_symlink():
            inside = self.through(path)
            if inside != path:
                return  # it is met where it lies
            if not self.follow_out or foreign(path.resolve()):
                self.left_out[path] = "it is a link that leads out of the workflow"
                return
        if path.is_dir():
            environment = (path / "pyvenv.cfg").exists() or path.name in ("__pycache__", "node_modules")
            if not environment and (not path.name.startswith(".") or self._may_hold_added(path)):
                queue.append(path)
        elif path.is_file():
            yield path

    def _added(self, path: Path, root: Path) -> bool:
        return any(_matches(path, root, p) for p in self.patterns if not p.startswith("!"))

    def _unwanted(self, path: Path, root: Path) -> bool:
        return any(_matches(path, root, p[1:]) for p in self.patterns if p.startswith("!"))

    def _may_hold_added(self, folder: Path) -> bool:
        return any(p.startswith(f"{folder.name}/") or p == folder.name for p in self.patterns)


def _matches(path: Path, root: Path, pattern: str) -> bool:
    name, pattern = path.relative_to(root).as_posix(), pattern.strip("/").removeprefix("./")
    return fnmatch.fnmatch(name, pattern) or name.startswith(pattern + "/")


def _hidden(path: Path, root: Path) -> bool:
    return any(p.startswith(".") or p == "__pycache__" for p in path.relative_to(root).parts)
