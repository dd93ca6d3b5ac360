"""A Snakemake pod as launchers see it: what it is to do, how it is, and a launcher's refusal."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from gdi.contracts.ids import PodName
from gdi.contracts.process_host import PodState
from gdi.contracts.run_file import RunPart

# seconds that a pod is given to stop: it takes at most 50 to cancel its TES tasks (snakemake_tes_auth.pod)
STOP_GRACE = 60.0


class LauncherError(Exception):
    """The launcher refused: what, and what to do. Not raised where it is only away (httpx.TransportError then)."""


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
