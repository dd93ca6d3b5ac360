"""`gdi workflow init`: the smallest good entry of a kind, which checks, locks and runs as it is, and releases
something.
"""

from __future__ import annotations

from pathlib import Path

from gdi.cli.authoring.templates import TEMPLATES
from gdi.contracts.ids import WORKFLOW_NAME, matches
from gdi.contracts.workflow import CatalogueError

DEFAULT = "allele-counts"


def init(catalogue: Path, name: str, kind: str = DEFAULT) -> Path:
    """Writes a new entry `catalogue/name` that releases something of the kind. CatalogueError where the name is no
    good, the folder is there, or no entry of that kind is known.
    """
    if kind not in TEMPLATES:
        known = ", ".join(TEMPLATES)
        raise CatalogueError(f"no entry is known for the kind {kind!r}: take one of {known}, or copy a workflow of it")
    if not matches(WORKFLOW_NAME, name):
        raise CatalogueError(
            f"{name!r} cannot be a workflow's name: lower-case letters, digits and '-', a letter first, at most 63"
        )
    folder = catalogue / name
    try:
        folder.mkdir(parents=True)
    except FileExistsError:
        raise CatalogueError(f"{folder} is there already; choose another name or work on that one") from None
    title = name.replace("-", " ").capitalize()
    for file, text in TEMPLATES[kind].files(kind, name, title).items():
        (folder / file).parent.mkdir(exist_ok=True)
        (folder / file).write_text(text)
    return folder
