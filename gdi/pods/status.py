"""What a pod object of the Kubernetes API says about a Snakemake pod: its state, why it waits, how it ended. Pure;
times by the cluster's clock and ours.
"""

from __future__ import annotations

import signal
import time
from dataclasses import replace
from typing import Any

from gdi.pods.manifest import CONTAINER, GATE, LET_GO
from gdi.pods.model import PodStatus
from gdi.pods.times import epoch

HOPELESS = ("InvalidImageName", "ErrImageNeverPull")  # waiting changes nothing
LOST_AFTER = 60  # seconds beyond a deletion's grace, after which the machine that should confirm it is taken as lost
SIGNALS = {int(s) for s in signal.Signals}


def status_of(pod: dict[str, Any], *, start_timeout: float, now: float | None = None) -> PodStatus:
    """The pod as the operators see it. `blocked` where it has waited longer than `start_timeout` seconds to start, or
    cannot start at all.
    """
    now = time.time() if now is None else now
    meta, found = pod["metadata"], pod.get("status") or {}
    name, uid, phase = str(meta["name"]), str(meta["uid"]), found.get("phase")
    deleted = epoch(meta.get("deletionTimestamp"))
    stopping = deleted is not None
    container = _container(found)
    ended = (container.get("state") or {}).get("terminated") if container else None
    if phase in ("Succeeded", "Failed") or (ended is not None and stopping):
        exited = PodStatus(name, uid, "exited", stopping=stopping)
        return _ended(exited, found, ended, limit=_memory_limit(pod))
    if deleted is not None and now > deleted + LOST_AFTER:
        return PodStatus(
            name,
            uid,
            "lost",
            stopping=True,
            reason=f"was to end, but its machine {_machine(pod)} does not say that it did",
        )
    if gated(pod):
        return PodStatus(name, uid, "created", stopping=stopping)
    if phase == "Pending" and not stopping:
        reason, since = _waiting(pod, container)
        hopeless = any(reason.startswith(word) for word in HOPELESS)
        return PodStatus(
            name, uid, "running", reason=reason, blocked=bool(hopeless or (reason and now - since > start_timeout))
        )
    return PodStatus(name, uid, "running", stopping=stopping)


def gated(pod: dict[str, Any]) -> bool:
    """Whether it is still held: made, and not let go."""
    return any(g.get("name") == GATE for g in (pod.get("spec") or {}).get("schedulingGates") or [])


def _container(found: dict[str, Any]) -> dict[str, Any] | None:
    return next((c for c in found.get("containerStatuses") or [] if c.get("name") == CONTAINER), None)


def _ended(exited: PodStatus, found: dict[str, Any], ended: dict[str, Any] | None, *, limit: str) -> PodStatus:
    """`exited`: what is known of every ended pod, to which how it ended is added."""
    # Evicted, Preempting, NodeShutdown, DeadlineExceeded, UnexpectedAdmissionError …
    if whole := str(found.get("reason") or ""):
        return replace(exited, state="lost", reason=_line(f"was ended by its cluster: {whole}", found.get("message")))
    if disrupted := next(
        (c for c in found.get("conditions") or [] if c.get("type") == "DisruptionTarget" and c.get("status") == "True"),
        None,
    ):
        code = int(ended["exitCode"]) if ended is not None else None
        if code != 0:
            reason = _line(f"was ended by its cluster: {disrupted.get('reason')}", disrupted.get("message"))
            return replace(exited, state="lost", reason=reason)
    if ended is None or ended.get("reason") == "ContainerStatusUnknown":
        broken = next(
            (
                c
                for c in found.get("initContainerStatuses") or []
                if ((c.get("state") or {}).get("terminated") or {}).get("exitCode")
            ),
            None,
        )
        if broken is not None:
            why = broken["state"]["terminated"].get("message")
            return replace(exited, exit_code=2, reason=_line("the workflow is not in the image", why))
        return replace(exited, state="lost", reason="ended, and its machine does not say how")
    code, reason = int(ended["exitCode"]), str(ended.get("reason") or "")
    if reason == "OOMKilled":
        return replace(exited, signal=9, reason=f"was killed for using more memory than its limit{limit}")
    if reason in ("StartError", "ContainerCannotRun"):
        return replace(exited, exit_code=2, reason=_line("its container could not be started", ended.get("message")))
    number = int(ended.get("signal") or 0) or (code - 128 if code - 128 in SIGNALS else 0)
    if number:
        return replace(exited, signal=number)
    return replace(exited, exit_code=code)


def _waiting(pod: dict[str, Any], container: dict[str, Any] | None) -> tuple[str, float]:
    """(why a pod that was let go does not run, since when); ("", 0) where it is just being started."""
    found, meta = pod.get("status") or {}, pod["metadata"]
    since = epoch((meta.get("annotations") or {}).get(LET_GO)) or epoch(meta.get("creationTimestamp")) or 0.0
    for condition in found.get("conditions") or []:
        if condition.get("type") == "PodScheduled":
            if condition.get("reason") == "SchedulingGated":  # of the time before it was let go
                return "the scheduler has not looked at it yet", since
            # The time is that of the change of `status`: it stays while a pod turns from gated to unschedulable.
            since = max(since, epoch(condition.get("lastTransitionTime")) or 0.0)
            if condition.get("status") == "False":
                return _line("no machine takes it", condition.get("message")), since
    for one in [container, *(found.get("initContainerStatuses") or [])]:
        waiting = ((one or {}).get("state") or {}).get("waiting")
        if waiting and waiting.get("reason") not in (None, "PodInitializing", "ContainerCreating"):
            return _line(str(waiting["reason"]), waiting.get("message")), since
    return (
        "its container is not started yet (a volume, its ConfigMap or the network is missing)" if since else ""
    ), since


def _memory_limit(pod: dict[str, Any]) -> str:
    for container in (pod.get("spec") or {}).get("containers") or []:
        if container.get("name") == CONTAINER and (
            limit := ((container.get("resources") or {}).get("limits") or {}).get("memory")
        ):
            return f" of {limit}"
    return ""


def _machine(pod: dict[str, Any]) -> str:
    return str((pod.get("spec") or {}).get("nodeName") or "(none)")


def _line(what: str, message: object) -> str:
    text = " ".join(str(message or "").split())[:500]
    return f"{what}: {text}" if text else what
