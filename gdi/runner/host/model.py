"""The process host's API types. Times are seconds since the epoch."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, Field, JsonValue

from gdi.contracts.ids import DatasetId, Digest, NodeId, PodName, RunId, WorkflowName
from gdi.kit.models import Strict

State = Literal["created", "running", "exited", "lost"]


class PodRequest(Strict):
    """`PUT /pods/{name}`: what the pod is to do. The same request again answers the pod that there is; another one is
    refused.
    """

    run: RunId
    attempt: int = Field(ge=1)
    node: NodeId
    workflow: WorkflowName
    digest: Digest
    parameters: dict[str, JsonValue] = Field(default_factory=dict)
    datasets: list[DatasetId]
    gateway_url: Annotated[str, Field(max_length=300)]
    audience: Annotated[str, Field(max_length=300)]


class StopRequest(Strict):
    """`POST /pods/{name}/stop`. `cancel`: SIGTERM, its TES tasks end. `hand-over`: SIGUSR1, they go on for the next
    pod. SIGKILL after `grace` seconds.
    """

    mode: Literal["cancel", "hand-over"] = "cancel"
    grace: float = Field(default=30, ge=0, le=600)


class PodStatus(BaseModel):
    """A pod as its asker sees it. `lost`: nobody saw its end (the host was restarted). `stopping`: somebody asked for
    its end.
    """

    name: PodName
    uid: str
    run: RunId
    attempt: int
    node: NodeId
    state: State
    stopping: bool = False
    exit_code: int | None = None
    signal: int | None = None
    created_at: float
    started_at: float | None = None
    ended_at: float | None = None


class PodRecord(PodStatus):
    """A pod as the host keeps it, in `pod.json` of its folder."""

    request: PodRequest
