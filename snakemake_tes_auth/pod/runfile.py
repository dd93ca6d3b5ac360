"""`run.json`: what a Snakemake pod is told about its run (docs/contracts.md, "Snakemake's pod"). Nothing in it is
secret.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, Field, JsonValue

from gdi.contracts.ids import DatasetId, Digest, NodeId, PodName, RunId, WorkflowName
from gdi.kit.models import Strict, load_model

Url = Annotated[str, Field(pattern=r"^https?://[A-Za-z0-9.\-\[\]:]+(/[A-Za-z0-9._~/-]*)?$", max_length=300)]


class RunFileError(Exception):
    """run.json is missing or wrong: names the file and the field."""


class SocketProxySpec(Strict):
    """A loopback port of the pod that leads to a unix socket of its host."""

    listen: int = Field(ge=1, le=65535)
    socket: Annotated[str, Field(min_length=1, max_length=107)]


class RunFile(Strict):
    """One node's part of one attempt of a run. `datasets` are this node's; `audience` is the gateway's, as run tokens
    name it.
    """

    run: RunId
    attempt: int = Field(ge=1)
    node: NodeId
    pod: PodName
    broker_url: Url
    gateway_url: Url
    audience: Annotated[str, Field(min_length=1, max_length=300)]
    workflow: WorkflowName
    digest: Digest
    parameters: dict[str, JsonValue] = Field(default_factory=dict)
    datasets: list[DatasetId] = Field(default_factory=list, max_length=1000)
    relays: list[SocketProxySpec] = Field(default_factory=list, max_length=10)

    def config(self) -> dict[str, JsonValue]:
        """What Snakefiles see as `config`; the platform's three names win over parameters of the same name."""
        return {**self.parameters, "datasets": list(self.datasets), "node": self.node, "run": self.run}


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


def load(path: Path) -> RunFile:
    """Reads and checks run.json. RunFileError naming file and field."""
    return load_model(path, RunFile, error=RunFileError, hint="The launcher writes it before the pod starts")
