"""What a pod object says: since when it waits, and how it ended."""

from __future__ import annotations

import pytest

from gdi.pods.status import status_of
from tests.unit.pods.making import a_pod, at


def test_a_pod_that_was_let_go_late_has_its_whole_time_to_start() -> None:
    now = 1_800_000_000.0
    scheduled = {
        "type": "PodScheduled",
        "status": "False",
        "lastTransitionTime": at(now - 5000),
        "message": "0/3 nodes are available",
    }
    for reason, said in (("SchedulingGated", "has not looked"), ("Unschedulable", "no machine takes it: 0/3 nodes")):
        for seconds, blocked in ((100, False), (400, True)):
            pod = a_pod(made=now - 5000, let_go=now - seconds, conditions=[{**scheduled, "reason": reason}])
            status = status_of(pod, start_timeout=300, now=now)
            assert status.blocked is blocked and said in status.reason and status.state == "running"
    older = a_pod(
        made=now - 400, conditions=[{**scheduled, "lastTransitionTime": at(now - 350), "reason": "Unschedulable"}]
    )
    assert status_of(older, start_timeout=300, now=now).blocked, "one that was let go before this was written"
    pulled = a_pod(
        made=now - 5000,
        let_go=now - 400,
        conditions=[{"type": "PodScheduled", "status": "True", "lastTransitionTime": at(now - 100)}],
    )
    assert not status_of(pulled, start_timeout=300, now=now).blocked


@pytest.mark.parametrize(
    ("state", "status", "lost", "code", "reason"),
    [
        ({"exitCode": 0}, {"phase": "Succeeded"}, False, 0, ""),
        ({"exitCode": 1}, {"phase": "Failed"}, False, 1, ""),
        ({"exitCode": 75}, {"phase": "Failed"}, True, 75, ""),
        ({"exitCode": 137}, {"phase": "Failed"}, True, None, ""),
        ({"exitCode": 137, "reason": "OOMKilled"}, {"phase": "Failed"}, True, None, "more memory than its limit"),
        ({"exitCode": 128, "reason": "StartError"}, {"phase": "Failed"}, False, 2, "could not be started"),
        ({"exitCode": 1}, {"phase": "Failed", "reason": "Evicted", "message": "disk"}, True, None, "Evicted: disk"),
        (None, {"phase": "Failed"}, True, None, "does not say how"),
    ],
)
def test_how_a_pod_ended(state: object, status: dict[str, str], lost: bool, code: int | None, reason: str) -> None:
    more = dict(status)
    phase = more.pop("phase")
    containers = [{"name": "snakemake", "state": {"terminated": state}}] if state else []
    found = status_of(a_pod(made=1e9, phase=phase, containerStatuses=containers, **more), start_timeout=300, now=1e9)
    assert found.ended and found.lost is lost and found.exit_code == code and reason in found.reason
