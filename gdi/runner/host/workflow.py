"""A pod's own copy of the workflow, taken from the catalogue and checked against the digest the run was admitted
with.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from gdi.contracts.workflow import CatalogueError
from gdi.contracts.workflow_files import digest_of, files_of
from gdi.kit.problem import ProblemError


def take(catalogue: Path, name: str, digest: str, target: Path) -> None:
    """Copies the workflow's files (and nothing else) into `target`, which is replaced. ProblemError where it is unknown
    or changed since admission.
    """
    source = catalogue / name
    if not source.is_dir():
        raise ProblemError(
            404,
            "unknown-workflow",
            f"The catalogue {catalogue.name} has no workflow {name}.",
            action="Install it beside the others, then retry the task.",
        )
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True, mode=0o700)
    try:
        for file in files_of(source):
            place = target / file
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source / file, place)
        found = digest_of(target)
    except (OSError, CatalogueError) as error:
        raise ProblemError(
            409,
            "workflow-unreadable",
            f"The workflow {name} cannot be copied: {error}",
            action="Mend the catalogue and retry.",
        ) from None
    if found != digest:
        shutil.rmtree(target, ignore_errors=True)
        raise ProblemError(
            409,
            "workflow-changed",
            f"The workflow {name} is {found} here, but the run was admitted with {digest}.",
            action="Start the analysis again: a run keeps the version it was admitted with.",
        )
