"""What Snakemake's process leaves for the pod's entry point: why it gave up, or which job failed first. A small file,
replaced whole.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Literal

from pydantic import Field, ValidationError

from gdi.contracts.ids import DatasetId
from gdi.kit.models import Strict


class Outcome(Strict):
    """`again`: a server was away too long, nothing is lost. `refused`: may not go on. `failed`: a job failed; its
    message is fit for a user's eyes.
    """

    kind: Literal["again", "refused", "failed"]
    message: str = Field(max_length=2000)
    dataset: DatasetId | None = None


RANK = {"failed": 0, "refused": 1, "again": 2}


class OutcomeFile:
    """The file at `path`; None keeps nothing (Snakemake used alone). The first of a kind stays; a weightier kind
    replaces a lighter one.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path

    def write(self, kind: Literal["again", "refused", "failed"], message: str, dataset: str | None = None) -> None:
        if self._path is None:
            return
        known = self.read()
        if known is not None and RANK[known.kind] >= RANK[kind]:
            return
        temporary = self._path.with_suffix(".new")
        temporary.write_text(json.dumps({"kind": kind, "message": message[:2000], "dataset": dataset}))
        temporary.replace(self._path)

    def read(self) -> Outcome | None:
        """What was left, None where nothing or nonsense was: a workflow may write here too."""
        if self._path is None:
            return None
        try:
            with self._path.open("rb") as handle:
                return Outcome.model_validate_json(handle.read(64 * 1024))
        except (OSError, ValidationError):
            return None

    def clear(self) -> None:
        if self._path is not None:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._path.unlink(missing_ok=True)
