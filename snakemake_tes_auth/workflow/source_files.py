"""Which of the workflow's own files a task needs: the project's, where its command names one of them or Snakemake runs
inside; and what lies beside a file that is named from outside of it.
"""

from __future__ import annotations

import contextlib
import functools
import os
import re
import shlex
from collections.abc import Iterable
from pathlib import Path

from snakemake_tes_auth.workflow.jobview import JobView
from snakemake_tes_auth.workflow.project import MAX_FILES, Project, foreign, is_key

MAX_FILE = 64 * 1024 * 1024  # bytes of one file
WHOLE = 200  # a project of at most so many files goes whole with a command that names one of them
SCRIPTS = (".py", ".R", ".r", ".Rmd", ".jl", ".rs", ".sh", ".ipynb", ".smk")  # what may have others beside it
_WORD = re.compile(r"[^\s'\"`;|&<>(){}$*?\[\]=,:\\]+")


class SourceFiles:
    """`folder` holds the Snakefile, `work` is where Snakemake runs, and `cache` keeps what `workflow.source_path`
    names. The other arguments are those of Project. Without `follow_out`, as in a run's pod, nothing outside of
    `folder` and `work` is the workflow's, whatever a command names: beside them lies the run's identity.
    """

    def __init__(
        self,
        folder: Path,
        work: Path,
        cache: Path | None = None,
        *,
        limit: int = MAX_FILE,
        patterns: tuple[str, ...] = (),
        never: frozenset[Path] = frozenset(),
        follow_out: bool = True,
    ) -> None:
        self._folder, self._work = folder, work
        self._cache = cache or work / ".cache"
        above = (folder.parent,) if follow_out and folder.name == "workflow" else ()
        roots = tuple(dict.fromkeys((folder, work, *above)))
        self.project = Project(roots, limit, patterns, never, follow_out)
        self._named = functools.cache(self._named_by)
        self._withheld = functools.cache(self.project.withheld)

    def by_command(self, job: JobView) -> set[Path]:
        """What the commands need: files and folders that they name, by absolute path, from the working directory or as
        a Python module, with what lies beside them; and the whole project, where it is small.
        """
        found: set[Path] = set()
        for member in job.members or [job]:
            for word in _words(member.shell or ""):
                found |= self._named(word)
        if found and len(self.project.files) <= WHOLE:
            found |= self.project.files
        return {path for path in found if not self._withheld(path)}

    def by_snakemake(self, read: Iterable[Path]) -> set[Path]:
        """What Snakemake itself reads, with what lies beside it (scripts have modules), and the project's files."""
        found = set(self.project.files)
        for path in read:
            if not (self.project.follow_out or self.project.root_of(path) or path.is_relative_to(self._cache)):
                continue
            if path not in found and path.suffix in SCRIPTS and not path.is_relative_to(self._cache):
                found |= self._beside(path)
            found.add(path)
        return {path for path in found if path.is_relative_to(self._cache) or not self._withheld(path)}

    def covers(self, path: Path) -> bool:
        """Whether a task may be given this local file: it lies with the workflow, in the working directory or in the
        cache, and is no hidden one.
        """
        if path.is_relative_to(self._cache):
            return ".." not in path.parts
        return self.project.allows(path) and not self._withheld(path)

    def may_read(self, path: Path) -> bool:
        """Whether a file that the Snakefile opened goes along."""
        return self.covers(path) or (self.project.follow_out and not self._withheld(path))

    def links(self, files: Iterable[Path]) -> list[tuple[str, str]]:
        """The workflow's symbolic links that lead to one of `files`: (path, target)."""
        return self.project.links_to(files)

    def report(self) -> str:
        """Which of the project's files tasks get, and which not; "" while no task needs any."""
        if "files" not in vars(self.project):
            return ""
        names = sorted(self._short(f) for f in self.project.files)
        total = sum(f.stat().st_size for f in self.project.files if f.exists())
        text = f"{len(names)} files of the workflow ({total} bytes) go to the tasks that need them: {_some(names)}"
        left = sorted(f"{self._short(f)} ({why})" for f, why in self.project.left_out.items())
        return f"{text}. Left out: {_some(left)}; --tes-auth-files adds and leaves out" if left else text

    def _short(self, path: Path) -> str:
        root = self.project.root_of(path)
        return str(path.relative_to(root)) if root is not None and path != root else str(path)

    def _named_by(self, word: str) -> frozenset[Path]:
        if word.startswith("-") or word in (".", "..", "/"):
            return frozenset()
        path = Path(os.path.normpath(self._work / word))  # an absolute word stays what it is
        if not path.exists() and "/" not in word and word.replace(".", "_").isidentifier():
            module = self._work.joinpath(*word.split("."))
            path = module if module.is_dir() else module.with_suffix(".py")
        if self.project.root_of(path) is None:
            outside = self.project.follow_out and _outside(word, path, self._work)
            return frozenset(self._beside(path)) if outside else frozenset()
        if path in self.project.roots or not self.project.allows(path):
            return frozenset()
        path = self.project.through(path)
        if path.is_dir():
            return frozenset(f for f in self.project.files if f.is_relative_to(path))
        return frozenset({path, *self._beside(path)}) if path.is_file() else frozenset()

    def _beside(self, path: Path) -> set[Path]:
        """What lies in a file's folder and below it; a file of a root itself lies alone."""
        if not path.is_file():
            return set()
        if path.parent in self.project.roots:
            return {path}
        if self.project.root_of(path) is not None:
            return {path, *(f for f in self.project.files if f.is_relative_to(path.parent))}
        near = [
            f for f in sorted(path.parent.iterdir()) if f.is_file() and not f.name.startswith(".") and not is_key(f)
        ]
        return {path, *(f for f in near[:MAX_FILES] if f.stat().st_size <= self.project.limit)}


def _some(names: list[str]) -> str:
    return ", ".join(names[:20]) + (f" and {len(names) - 20} more" if len(names) > 20 else "")


def _words(command: str) -> set[str]:
    words = set(_WORD.findall(command))
    with contextlib.suppress(ValueError):  # no closing quote
        words |= {w for w in shlex.split(command) if " " in w and len(w) < 1000 and "\n" not in w}
    return {w for w in words if not w.startswith(".snakemake/") and len(w) < 4000}


def _outside(word: str, path: Path, work: Path) -> bool:
    """Whether a file outside the project is meant as one of the workflow's: named by `../`, or beside its folder."""
    return not foreign(path) and (word.startswith("../") or path.is_relative_to(work.parent))
