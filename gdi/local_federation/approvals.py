"""The nodes' operator of a federation that stays up: whoever edits a workflow of the catalogue is that person too, so
its new version is approved within seconds. What was approved before stays, and so does what they wrote in a policy.
"""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import yaml

from gdi.contracts.workflow import CatalogueError
from gdi.contracts.workflow_files import digest_of

log = logging.getLogger(__name__)
LOOK = 2.0  # seconds between two looks at the catalogue


def approved(workflows: Path) -> list[dict[str, str]]:
    """Every workflow of a catalogue, in its present version."""
    entries = sorted(p for p in workflows.iterdir() if (p / "workflow.yaml").is_file())
    return [{"name": path.name, "digest": digest_of(path)} for path in entries]


def approve(policy: Path, versions: Sequence[dict[str, str]]) -> bool:
    """Adds the versions that the policy does not approve yet, in one step; whether there were some. A policy that
    somebody is writing at this moment, or that is none, is left as it is.
    """
    try:
        document: Any = yaml.safe_load(policy.read_text())
    except (yaml.YAMLError, UnicodeDecodeError):
        return False
    if not isinstance(document, dict) or not isinstance(document.get("workflows"), list):
        return False
    new = [version for version in versions if version not in document["workflows"]]
    if new:
        document["workflows"] = [*document["workflows"], *new]
        draft = policy.with_suffix(".draft")
        draft.write_text(yaml.safe_dump(document, sort_keys=False))
        draft.replace(policy)
    return bool(new)


class CatalogueWatch:
    """Looks at the catalogue until it is stopped. A version that is half written is approved too: it is one that nobody
    starts.
    """

    def __init__(self, workflows: Path, policies: Callable[[], Sequence[Path]]) -> None:
        self._workflows, self._policies = workflows, policies
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run, name="catalogue", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._end.set()
        if self._thread.is_alive():
            self._thread.join(10)

    def look(self) -> None:
        """Once. A catalogue that cannot be read is looked at again."""
        with contextlib.suppress(OSError, CatalogueError):
            versions = approved(self._workflows)
            for policy in self._policies():
                if approve(policy, versions):
                    log.info("%s: the catalogue's versions of now are approved", policy)

    def _run(self) -> None:
        while not self._end.wait(LOOK):
            self.look()
