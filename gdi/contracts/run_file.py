"""`run.json`: what a Snakemake pod is told about its run. Launchers write it, the pod reads it; nothing in it is
secret.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Annotated

from pydantic import Field, JsonValue

from gdi.contracts.cohorts import PARAMETER
from gdi.contracts.ids import DatasetId, Digest, NodeId, PodName, RunId, WorkflowName, dataset_name
from gdi.kit.models import Frozen, Strict, load_model

Url = Annotated[str, Field(pattern=r"^https?://[A-Za-z0-9.\-\[\]:]+(/[A-Za-z0-9._~/-]*)?$", max_length=300)]
NOTHING: Mapping[str, JsonValue] = MappingProxyType({})


class RunFileError(Exception):
    """run.json is missing or wrong: names the file and the field."""


class RunPart(Frozen):
    """One node's part of one attempt of a run: what a pod is to do. `datasets` are this node's; `audience` is the
    gateway's, as run tokens name it.
    """

    run: RunId
    attempt: int = Field(ge=1)
    node: NodeId
    workflow: WorkflowName
    digest: Digest
    parameters: dict[str, JsonValue] = Field(default_factory=dict)
    datasets: list[DatasetId] = Field(default_factory=list, max_length=1000)
    gateway_url: Url
    audience: Annotated[str, Field(min_length=1, max_length=300)]


class SocketProxySpec(Strict):
    """A loopback port of the pod that leads to a unix socket of its host (a socket's path has at most 107 bytes)."""

    listen: int = Field(ge=1, le=65535)
    socket: Annotated[str, Field(min_length=1, max_length=107)]


class RunFile(RunPart):
    """The content of run.json. `broker_url` and `gateway_url` are as the pod reaches them."""

    pod: PodName
    broker_url: Url
    relays: list[SocketProxySpec] = Field(default_factory=list, max_length=10)

    @classmethod
    def of(
        cls,
        part: RunPart,
        pod: str,
        *,
        broker_url: str,
        gateway_url: str | None = None,
        relays: list[SocketProxySpec] | None = None,
    ) -> RunFile:
        """The file for the pod that does `part`. `gateway_url` where the pod reaches it by another name."""
        values = {name: getattr(part, name) for name in RunPart.model_fields}
        if gateway_url is not None:
            values["gateway_url"] = gateway_url
        return cls(**values, pod=pod, broker_url=broker_url, relays=relays or [])

    def config(self, described: Mapping[str, JsonValue] = NOTHING) -> dict[str, JsonValue]:
        """What Snakefiles see as `config`; the platform's four names win over parameters of the same name. Datasets by
        their names: `sda://{dataset}/file` and `count/{dataset}.json` are then one part each. `described`: by the
        dataset's id.
        """
        datasets = [dataset_name(dataset) for dataset in self.datasets]
        own: dict[str, JsonValue] = {"datasets": list[JsonValue](datasets), "node": self.node, "run": self.run}
        own["described"] = {dataset_name(dataset): value for dataset, value in described.items()}
        cohort = self.parameters.get(PARAMETER)
        if isinstance(cohort, dict) and isinstance(epochs := cohort.get("epochs"), dict):
            own[PARAMETER] = {**cohort, "epochs": {dataset_name(dataset): n for dataset, n in epochs.items()}}
        return {**self.parameters, **own}


def load(path: Path) -> RunFile:
    """Reads and checks run.json. RunFileError naming file and field."""
    return load_model(path, RunFile, error=RunFileError, hint="The launcher writes it before the pod starts")
