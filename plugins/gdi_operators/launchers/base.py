"""A launcher makes, watches and stops Snakemake pods. Names are chosen by the operator, so that a pod is found again
whoever lost sight of it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

from gdi.contracts.ids import PodName
from gdi.contracts.process_host import PodState, StopMode
from gdi.contracts.run_file import RunPart

STOP_GRACE = (
    60.0  # seconds that a pod is given to stop: it takes at most 50 to cancel its TES tasks (snakemake_tes_auth.pod)
)


class PodSpec(RunPart):
    """What a pod is to do; nothing secret. Its identity comes from the platform, never from here. `pod`: what the run
    asks for its pod (resources, priority …), where pods have such things, within the operator's limits.
    """

    name: PodName
    pod: dict[str, Any] | None = None


@dataclass(frozen=True)
class PodStatus:
    """`lost`: ended, and nobody saw how. `stopping`: its end was asked for. An exited pod has an exit code or a signal.

    `reason`: why it ended so, or what a pod that was let go still waits for. `blocked`: it waits for what will not
    come; stop it and say the reason.
    """

    name: str
    uid: str
    state: PodState
    stopping: bool = False
    exit_code: int | None = None
    signal: int | None = None
    reason: str = ""
    blocked: bool = False

    @property
    def ended(self) -> bool:
        return self.state in ("exited", "lost")

    @property
    def succeeded(self) -> bool:
        return self.state == "exited" and self.exit_code == 0

    @property
    def lost(self) -> bool:
        """Ended by no decision of the workflow: by a signal, with the platform, or with exit code 75 (try again)."""
        return self.state == "lost" or (self.state == "exited" and (self.exit_code is None or self.exit_code == 75))


class LauncherError(Exception):
    """The launcher refused: what, and what to do. Not raised where it is only away (httpx.TransportError then)."""


class Launcher(ABC):
    """Create and start are two steps, so that the pod's uid is known to the broker before the pod can ask for its first
    token. All calls are idempotent.
    """

    @abstractmethod
    def create(self, spec: PodSpec) -> PodStatus:
        """Makes the pod, not running yet; the one that there is where the same was asked before."""

    @abstractmethod
    def start(self, name: str) -> PodStatus:
        """Lets a created pod run; one that runs is left alone."""

    @abstractmethod
    def get(self, name: str) -> PodStatus | None:
        """The pod, or None where there is none of that name."""

    @abstractmethod
    def of_attempt(self, run: str, node: str, attempt: int) -> dict[str, PodStatus]:
        """The pods that there are of a node's part of an attempt, by name; those that were deleted are not among
        them.
        """

    @abstractmethod
    def stop(self, name: str, *, mode: StopMode, grace: float) -> None:
        """Asks for its end and insists after `grace` seconds; returns at once. No error where it ended or never was."""

    @abstractmethod
    async def aget(self, name: str) -> PodStatus | None:
        """`get` for a trigger's event loop."""

    @abstractmethod
    async def astop(self, name: str, *, mode: StopMode, grace: float) -> None:
        """`stop` for a trigger's event loop."""

    async def alog(self, name: str, since: str, *, ended: bool = False) -> tuple[list[str], str]:
        """(lines of its log after `since`, the next `since`); nothing where the platform keeps logs to itself. `since`
        is "" at first.

        At most some lines at each look; with `ended` the last ones of all.
        """
        return [], since

    @abstractmethod
    async def aclose(self) -> None:
        """Ends what the async calls keep open."""
