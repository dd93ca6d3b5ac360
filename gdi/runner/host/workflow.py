"""A pod's own copy of the workflow, taken from the catalogue and checked against the digest the run was admitted
with.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from gdi.contracts.workflow import CatalogueError
from gdi.contracts.workflow_files import digest_of, files_of, files_with_digest
from gdi.kit.problem import ProblemError


def take(catalogue: Path, name: str, digest: str, target: Path, *, earlier: Sequence[Path] = ()) -> None:
    """Copies the workflow's files (and nothing else) into `target`, which is replaced: from the catalogue, or, where it
    was changed since admission, from `earlier`, the copies of the run's other pods. ProblemError where neither has it.
    """
    by_digest = catalogue / digest.replace(":", "-")  # as a node's agent keeps them
    source = by_digest if by_digest.is_dir() else catalogue / name
    if not source.is_dir() and not earlier:
        raise ProblemError(
            404,
            "unknown-workflow",
            f"The catalogue {catalogue.name} has no workflow {name}.",
            action="Install it beside the others, then retry the task.",
        )
    found = ""
    for folder in (source, *earlier):
        if folder.is_dir() and folder != target:
            now = _copied(name, folder, target, digest)
            if now == digest:
                return
            found = found or now
    shutil.rmtree(target, ignore_errors=True)
    raise ProblemError(
        409,
        "workflow-changed",
        f"The workflow {name} is {found or 'gone'} here, but the run was admitted with {digest}.",
        action="Start the analysis again: a run keeps the version it was admitted with.",
    )


def _copied(name: str, source: Path, target: Path, digest: str) -> str:
    """The digest of what `target` holds then: the wished one where the source has it."""
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True, mode=0o700)
    try:
        for file in files_with_digest(source, digest) or files_of(source):
            place = target / file
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source / file, place)
        return digest if files_with_digest(target, digest) else digest_of(target)
    except (OSError, CatalogueError) as error:
        raise ProblemError(
            409,
            "workflow-unreadable",
            f"The workflow {name} cannot be copied: {error}",
            action="Mend the catalogue and retry.",
        ) from None
