"""Where a Snakemake pod finds its things, as launchers put them there."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel


class Folders(BaseModel):
    """Where a pod finds its things: `/gdi` in the sandbox, another root in tests and on a workstation."""

    root: Path = Path("/gdi")

    @property
    def run_file(self) -> Path:
        return self.root / "run.json"

    @property
    def identity(self) -> Path:
        return self.root / "identity" / "token"

    @property
    def annotations(self) -> Path:
        """What the cluster says of the pod (Kubernetes: downward API); not there where the launcher is none."""
        return self.root / "pod" / "annotations"

    @property
    def work(self) -> Path:
        return self.root / "work"

    @property
    def workflow(self) -> Path:
        return self.root / "workflow"

    @property
    def state(self) -> Path:
        """The platform's own files inside the work folder."""
        return self.work / ".gdi"
