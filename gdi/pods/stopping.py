"""How a pod is stopped: marked, so that it knows a cancel from an eviction, and a moment later deleted."""

from __future__ import annotations

from typing import Any

from gdi.contracts.process_host import StopMode
from gdi.pods.manifest import STOP
from gdi.pods.model import PodStatus


def mark(mode: StopMode, uid: str) -> dict[str, Any]:
    """The patch that writes the mark on that pod: the API server refuses it for another of its name."""
    return {"metadata": {"uid": uid, "annotations": {STOP: mode}}}


def needs_mark(pod: dict[str, Any], status: PodStatus, mode: StopMode) -> bool:
    """Whether it has a process that can read the mark, and no mark yet (of an earlier try that was cut off)."""
    marked = (pod["metadata"].get("annotations") or {}).get(STOP) == mode
    return status.state == "running" and not status.reason and not marked


def seconds_to_end(status: PodStatus, grace: float) -> int:
    """Whole seconds from SIGTERM to SIGKILL. A pod that does not run has nothing to cancel. At least 1 for another: 0
    would forget the pod before its machine ended it, so that two could run.
    """
    return 0 if status.state == "created" else max(1, round(grace))


def deletion(uid: str, seconds: int, *, version: str | None = None) -> dict[str, Any]:
    """The body that deletes that pod and no other of its name; with `version` only as it was then."""
    return {
        "gracePeriodSeconds": seconds,
        "preconditions": {"uid": uid, **({"resourceVersion": version} if version else {})},
    }
