"""The workflows as people see them: read from the folder that Airflow reads, again when something in it changed."""

from __future__ import annotations

import logging
import time
from pathlib import Path
from typing import Any

from gdi.contracts.ids import WORKFLOW_NAME, matches
from gdi.contracts.portal_api import CatalogueRelease, CatalogueWorkflow, WorkflowList
from gdi.contracts.workflow import CatalogueEntry, CatalogueError
from gdi.contracts.workflow_files import load
from gdi.kit.problem import ProblemError

log = logging.getLogger(__name__)
KEEP = 5.0  # seconds between looks at the folder
Stamp = tuple[tuple[str, int, int, int, int], ...]  # of each file: name, inode, size, when it was changed


class Catalogue:
    """Every `KEEP` seconds at most a blocking look at when files changed; only entries that did are read again."""

    def __init__(self, folder: Path) -> None:
        inner = folder / "workflows"
        self._folder = inner if inner.is_dir() and not any(folder.glob("*/workflow.yaml")) else folder
        self._looked_at = 0.0
        self._entries: dict[str, CatalogueEntry] = {}
        self._broken: dict[str, str] = {}
        self._stamps: dict[str, Stamp] = {}

    def entries(self) -> dict[str, CatalogueEntry]:
        """The good entries by name."""
        if not self._looked_at or time.monotonic() - self._looked_at > KEEP:
            self._read()
        return self._entries

    def _read(self) -> None:
        good: dict[str, CatalogueEntry] = {}
        broken: dict[str, str] = {}
        stamps: dict[str, Stamp] = {}
        for path in sorted(p for p in self._folder.iterdir() if p.is_dir() and matches(WORKFLOW_NAME, p.name)):
            try:
                stamps[path.name] = stamp = _stamp(path)
                known = self._entries.get(path.name) if self._stamps.get(path.name) == stamp else None
                good[path.name] = known or load(path)
            except (CatalogueError, OSError) as error:
                broken[path.name] = str(error)
        for name in sorted(set(broken) - set(self._broken)):
            log.error("the entry %s is not offered: %s", name, broken[name])
        self._entries, self._broken, self._stamps, self._looked_at = good, broken, stamps, time.monotonic()

    def list(self) -> WorkflowList:
        return WorkflowList(workflows=[described(e) for e in self.entries().values()], broken=len(self._broken))

    def entry(self, name: str) -> CatalogueEntry:
        """ProblemError 404 `workflow-unknown`."""
        found = self.entries().get(name)
        if found is None:
            raise ProblemError(
                404,
                "workflow-unknown",
                f"The catalogue has no workflow {name[:100]!r}.",
                action="GET /v1/workflows lists what there is.",
            )
        return found

    def of_digest(self, digest: str) -> CatalogueEntry | None:
        """The entry whose files are those of this digest."""
        return next((e for e in self.entries().values() if e.digest == digest), None)


def _stamp(folder: Path) -> Stamp:
    """What changes with any of the folder's files, however it is changed."""
    return tuple(
        (str(path), at.st_ino, at.st_size, at.st_mtime_ns, at.st_ctime_ns)
        for path in sorted(folder.rglob("*"))
        if (at := path.stat(follow_symlinks=False))
    )


def described(entry: CatalogueEntry) -> CatalogueWorkflow:
    flow = entry.workflow
    schema: dict[str, Any] = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **flow.schema_of_parameters(),
    }
    return CatalogueWorkflow(
        name=flow.name,
        title=flow.title,
        description=flow.description,
        version=flow.version,
        digest=entry.digest,
        parameters=schema,
        releases=[CatalogueRelease(name=r.name, title=r.title, kind=r.kind, merged=r.merge) for r in flow.releases],
        needs=flow.needs,
        cohorts=flow.cohorts,
    )


def check_parameters(entry: CatalogueEntry, parameters: dict[str, Any]) -> None:
    """ProblemError 422 `bad-parameters` with one sentence for each mistake (`mistakes`)."""
    if wrong := entry.workflow.check_parameters(parameters):
        raise ProblemError(
            422,
            "bad-parameters",
            "; ".join(wrong),
            action=f"Correct them: GET /v1/workflows/{entry.workflow.name} has their schema.",
            mistakes=wrong,
        )
