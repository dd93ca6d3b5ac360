"""Which of the workflow's own files a task needs: those that its command names, with their folder; or all that
Snakemake reads, where it runs inside.
"""

from __future__ import annotations

import functools
import re
import subprocess
from pathlib import Path

from snakemake_tes_auth.workflow.jobview import JobView

MAX_FILES = 500
MAX_BESIDE = 1024 * 1024  # bytes of a file that is taken because it lies beside the Snakefile: larger ones are data
_WORD = re.compile(r"[^\s'\"`;|&<>(){}$*?\[\]=,:\\]+")


class SourceFiles:
    """`folder` holds the Snakefile, `work` is where Snakemake runs, and `cache` keeps what `workflow.source_path`
    names.
    """

    def __init__(self, folder: Path, work: Path, cache: Path | None = None) -> None:
        self._folder, self._work = folder, work
        self._cache = cache or work / ".cache"
        self._beside = functools.cache(self._with_folder)

    def by_command(self, job: JobView) -> set[Path]:
        """Files that the commands name, by absolute path or from the working directory, with what lies in the same
        folder: a script finds its modules.
        """
        words = {
            w
            for m in (job.members or [job])
            for w in _WORD.findall(m.shell or "")
            if ("/" in w or "." in w) and not w.startswith(".snakemake/")
        }
        return {f for word in words for f in self._beside(word)}

    def _with_folder(self, word: str) -> frozenset[Path]:
        path = self._work / word  # an absolute word stays what it is
        roots = [r for r in (self._folder, self._work) if path.is_relative_to(r)]
        if not roots or ".." in path.parts or _hidden(path, roots[0]) or path.is_symlink() or not path.is_file():
            return frozenset()
        if path.parent in (self._folder, self._work):
            return frozenset([path])
        return frozenset({path, *(f for f in _files(path.parent) if f.stat().st_size <= MAX_BESIDE)})

    def covers(self, path: Path) -> bool:
        """Whether a task may be given this local file: it lies with the workflow, in the working directory or in the
        cache, and is no hidden one.
        """
        roots = [r for r in (self._cache, self._folder, self._work) if path.is_relative_to(r)]
        return bool(roots) and ".." not in path.parts and not _hidden(path, roots[0])

    def by_snakemake(self, read: tuple[Path, ...]) -> set[Path]:
        """What Snakemake itself `read`, with what lies beside it (scripts have modules), and the catalogue entry or the
        repository's files.
        """
        return (
            set(read)
            | {f for path in read if not path.is_relative_to(self._cache) for f in self._beside(str(path))}
            | self._project()
        )

    def _project(self) -> frozenset[Path]:
        if not hasattr(self, "_found"):
            whole = (self._folder / "workflow.yaml").is_file() or self._folder.name == "workflow"
            found = set(_files(self._folder)) if whole else _tracked(self._folder)
            if self._folder.name == "workflow" and (self._folder.parent / "config").is_dir():
                found |= set(_files(self._folder.parent / "config"))
            self._found = frozenset(f for f in found if f.stat().st_size <= MAX_BESIDE)
        return self._found


def _hidden(path: Path, root: Path) -> bool:
    return any(p.startswith(".") or p == "__pycache__" for p in path.relative_to(root).parts)


def _files(folder: Path) -> list[Path]:
    """The plain files below, without hidden ones, caches and links; at most MAX_FILES."""
    found = []
    for path in sorted(folder.rglob("*")):
        if not _hidden(path, folder) and not path.is_symlink() and path.is_file():
            found.append(path)
            if len(found) >= MAX_FILES:
                break
    return found


def _tracked(folder: Path) -> set[Path]:
    """What git tracks there, if it is a repository and git is installed."""
    try:
        done = subprocess.run(["git", "ls-files", "-z"], cwd=folder, capture_output=True, timeout=30, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return set()
    names = [n for n in done.stdout.decode(errors="replace").split("\0") if n] if done.returncode == 0 else []
    paths = [folder / name for name in names[:MAX_FILES]]
    return {p for p in paths if not _hidden(p, folder) and p.is_file() and not p.is_symlink()}
