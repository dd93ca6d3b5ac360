"""The process host's API on its control socket: what a launcher asks, and what it hears of a pod. Times are seconds
since the epoch (UTC).
"""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, Field

from gdi.contracts.ids import NodeId, PodName, RunId
from gdi.contracts.run_file import RunPart
from gdi.kit.models import Strict

PodState = Literal["created", "running", "exited", "lost"]
StopMode = Literal["cancel", "hand-over"]


class PodRequest(RunPart):
    """`PUT /pods/{name}`: what the pod is to do. The same request again answers the pod that there is; another one is
    refused.
    """


class StopRequest(Strict):
    """`POST /pods/{name}/stop`. `cancel`: SIGTERM, its TES tasks end. `hand-over`: SIGUSR1, they go on for the next
    pod. SIGKILL after `grace` seconds.
    """

    mode: StopMode = "cancel"
    grace: float = Field(default=30, ge=0, le=600)


class HostedPod(BaseModel):
    """`GET /pods/{name}`; `GET /pods` is a list of them. `lost`: nobody saw its end (the host was restarted).
    `stopping`: its end was asked for. `reason`: why it ended so, where the platform says that.
    """

    name: PodName
    uid: str
    run: RunId
    attempt: int
    node: NodeId
    state: PodState
    stopping: bool = False
    exit_code: int | None = None
    signal: int | None = None
    reason: str = ""
    created_at: float
    started_at: float | None = None
    ended_at: float | None = None
