"""Which pods nobody needs any more: those that ended long ago, as Kubernetes itself keeps thousands of them, and those
that were never let go (a step that died before that, or could not pin their uid).
"""

from __future__ import annotations

from typing import Any

from gdi.pods.manifest import MANAGED
from gdi.pods.model import PodStatus
from gdi.pods.status import gated
from gdi.pods.times import epoch

# after which a pod that was not let go is nobody's: a step waits for the broker and the API some minutes
GATED_SECONDS = 3600.0
SELECTOR = ",".join(f"{key}={value}" for key, value in MANAGED.items())
PHASES = ("status.phase!=Running,status.phase!=Pending", "status.phase=Pending")  # field selectors of what may be over


def is_over(pod: dict[str, Any], status: PodStatus, *, keep_seconds: float, now: float) -> bool:
    """Whether a pod may be removed at `now` (seconds since the epoch). One that is pending and not held is left to who
    waits for it, whatever its machine says.
    """
    ended = _ended_at(pod)
    if ended is None:  # without a time nothing is old
        return False
    if gated(pod):
        return now - ended > GATED_SECONDS
    return status.ended and pod["status"].get("phase") != "Pending" and now - ended > keep_seconds


def _ended_at(pod: dict[str, Any]) -> float | None:
    """When its last container ended, else when it was made; None where no time can be read."""
    times = [pod["metadata"].get("creationTimestamp")]
    for one in (pod.get("status") or {}).get("containerStatuses") or []:
        times.append(((one.get("state") or {}).get("terminated") or {}).get("finishedAt"))
    return max((at for at in map(epoch, times) if at is not None), default=None)
