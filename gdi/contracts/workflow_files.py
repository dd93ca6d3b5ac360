"""A catalogue entry's folder: its files, the digest over them, and the entry as it is read. For Airflow, `gdi workflow`
and the launcher.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

from gdi.contracts.workflow import CatalogueEntry, CatalogueError, RulesLock, Workflow
from gdi.kit.models import load_model

MAX_FILES, MAX_BYTES = 200, 4 * 1024 * 1024
LOCK = "rules.lock"
APPROVALS = "approvals"  # reviewers' signatures (gdi.contracts.approval)
README = "README.md"  # for people: nothing of it runs, or comes to where something runs (decision 849)


def files_of(folder: Path, *, readme: bool = False) -> list[str]:
    """The relative paths of the files that make the workflow, sorted; hidden files, caches, links, rules.lock,
    reviewers' signatures and the README are not part of it. `readme`: as before decision 849, when it was.
    """
    found = []
    for path in sorted(folder.rglob("*")):
        relative = path.relative_to(folder)
        counts = not _left_out(relative) or (readme and relative == Path(README))
        if not counts or path.is_symlink() or not path.is_file():
            continue
        if relative.as_posix() not in (LOCK, APPROVALS):
            found.append(relative.as_posix())
    return found


def files_with_digest(folder: Path, digest: str) -> list[str]:
    """The files that have this digest: those of `files_of`, or, of a run that was admitted before decision 849, with
    the README, which is then pinned too. None where neither has it. CatalogueError as `digest_of`.
    """
    for readme in (False, True):
        if digest_of(folder, readme=readme) == digest:
            return files_of(folder, readme=readme)
    return []


def digest_of(folder: Path, *, readme: bool = False) -> str:
    """The digest over the folder's files. CatalogueError where they are too many or too large."""
    files = files_of(folder, readme=readme)
    if len(files) > MAX_FILES:
        raise CatalogueError(_too_many(str(folder), len(files)))
    size = 0
    contents = {}
    for name in files:
        contents[name] = (folder / name).read_bytes()
        size += len(contents[name])
        if size > MAX_BYTES:
            raise CatalogueError(f"{folder}: more than {MAX_BYTES} bytes; keep data out of the workflow folder")
    return _digest(contents)


def digest_of_files(contents: Mapping[str, bytes]) -> str:
    """The same over files that came another way, by their relative paths. CatalogueError as above."""
    files = {name: data for name, data in contents.items() if name != LOCK and not _left_out(Path(name))}
    if len(files) > MAX_FILES:
        raise CatalogueError(_too_many("the workflow", len(files)))
    if sum(map(len, files.values())) > MAX_BYTES:
        raise CatalogueError(f"more than {MAX_BYTES} bytes; keep data out of the workflow")
    return _digest({name: files[name] for name in (p.as_posix() for p in sorted(map(Path, files)))})


def _digest(contents: Mapping[str, bytes]) -> str:
    total = hashlib.sha256()
    for name, data in contents.items():
        total.update(f"{name}\0{len(data)}\0".encode())
        total.update(data)
    return "sha256:" + total.hexdigest()


def _too_many(where: str, count: int) -> str:
    return f"{where}: {count} files, at most {MAX_FILES} are allowed; keep data out of the workflow folder"


def _left_out(relative: Path) -> bool:
    hidden = any(p.startswith(".") or p == "__pycache__" for p in relative.parts)
    return hidden or relative == Path(README)


def load(folder: Path, *, name: str | None = None) -> CatalogueEntry:
    """Reads one entry: the workflow `name`, which by default is the folder's. CatalogueError naming file and field
    where it is wrong.
    """
    file = folder / "workflow.yaml"
    workflow = load_model(file, Workflow, error=CatalogueError)
    if workflow.name != (name or folder.name):
        raise CatalogueError(
            f"{file}: name: is {workflow.name!r}, the folder is {name or folder.name!r}; they must be the same"
        )
    for beside in ["Snakefile", *(r.schema_file for r in workflow.releases if r.schema_file)]:
        if not (folder / beside).is_file():
            raise CatalogueError(f"{file}: {beside} is missing beside it")
    return CatalogueEntry(
        folder=folder,
        workflow=workflow,
        digest=digest_of(folder),
        files=files_of(folder),
        lock=load_model(lock, RulesLock, error=CatalogueError) if (lock := folder / LOCK).exists() else None,
    )
