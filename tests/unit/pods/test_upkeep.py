"""Which pods are removed, how one is stopped, which is the latest, and what the API's answers mean."""

from __future__ import annotations

import json
from typing import Any

import pytest

from gdi.kit.problem import ProblemError
from gdi.pods import generations, manifest
from gdi.pods.answers import AbsentError, ExistsError, RefusedError, judge
from gdi.pods.model import LauncherError, PodStatus
from gdi.pods.status import status_of
from gdi.pods.stopping import deletion, mark, needs_mark, seconds_to_end
from gdi.pods.upkeep import is_over
from tests.unit.pods.making import NAME, a_pod, at

NOW = 1_800_000_000.0


def over(pod: dict[str, Any]) -> bool:
    return is_over(pod, status_of(pod, start_timeout=300, now=NOW), keep_seconds=86_400, now=NOW)


def test_a_pod_that_nobody_will_let_go_is_removed_after_an_hour_and_an_ended_one_after_a_day() -> None:
    unreachable = a_pod("unreachable", made=NOW - 90_000, let_go=NOW - 90_000)  # two of it could run
    unreachable["metadata"]["deletionTimestamp"] = at(NOW - 90_000)
    assert over(a_pod("forgotten", made=NOW - 4000, gate=True)) and not over(a_pod("new", made=NOW - 3000, gate=True))
    assert over(a_pod("old", made=NOW - 90_000, phase="Failed")) and not over(
        a_pod("ended", made=NOW - 9000, phase="Failed")
    )
    assert not over(unreachable) and not over(a_pod("waiting", made=NOW - 90_000, let_go=NOW - 90_000))


def test_a_running_pod_is_marked_once_and_one_that_does_not_run_is_just_deleted() -> None:
    running = a_pod(made=NOW, phase="Running")
    assert needs_mark(running, status_of(running, start_timeout=300, now=NOW), "cancel")
    running["metadata"]["annotations"].update(mark("cancel", "u")["metadata"]["annotations"])
    assert not needs_mark(running, status_of(running, start_timeout=300, now=NOW), "cancel")
    held = a_pod(made=NOW, gate=True)
    status = status_of(held, start_timeout=300, now=NOW)
    assert not needs_mark(held, status, "cancel") and seconds_to_end(status, 60) == 0
    assert seconds_to_end(PodStatus(NAME, "u", "running"), 0.2) == 1, "0 would forget a pod that still runs"
    assert deletion("u", 5) == {"gracePeriodSeconds": 5, "preconditions": {"uid": "u"}}
    assert deletion("u", 0, version="7")["preconditions"] == {"uid": "u", "resourceVersion": "7"}


def test_the_latest_generation_counts_and_a_strangers_name_is_refused() -> None:
    pods = {f"{NAME[:-1]}{number}": PodStatus(f"{NAME[:-1]}{number}", "u", "exited") for number in (2, 10, 9)}
    assert generations.latest(pods) == (10, pods[f"{NAME[:-1]}10"]) and generations.latest({}) == (0, None)
    with pytest.raises(LauncherError, match="not the name"):
        generations.node_in("../secrets/x")
    assert generations.selector("r-1", "node-a", 2) == "gdi-run=r-1,gdi-node=node-a,gdi-attempt=2"
    labels = manifest.MANAGED | {"gdi-run": "r-1"}
    assert set(labels) >= {"gdi-run"}


@pytest.mark.parametrize(
    ("status", "answer", "error", "text"),
    [
        (404, {"message": "no"}, AbsentError, "no"),
        (409, {"reason": "AlreadyExists"}, ExistsError, "status 409"),
        (409, {"reason": "Conflict"}, ProblemError, "answers 409"),
        (409, {"reason": "Conflict", "message": "the UID in the precondition (a) does not match"}, AbsentError, "UID"),
        (422, {"message": "metadata.uid: Invalid value: field is immutable"}, AbsentError, "uid"),
        (403, {"message": "exceeded quota: runs"}, ProblemError, "exceeded quota"),
        (403, {"message": "User cannot list"}, RefusedError, "refuses"),
        (401, {}, RefusedError, "refuses"),
        (403, {"message": "violates PodSecurity"}, LauncherError, "PodSecurity"),
        (422, {"message": "invalid"}, LauncherError, "refuses the request"),
        (503, {}, ProblemError, "answers 503"),
        (200, None, ProblemError, "no JSON"),
    ],
)
def test_what_an_answer_means(status: int, answer: dict[str, object] | None, error: type[Exception], text: str) -> None:
    body = b"cut sh" if answer is None else json.dumps({"kind": "Status", **answer}).encode()
    with pytest.raises(error, match=text):
        judge(status, body, "reading pod x")
    assert judge(200, b"{}", "reading pod x") == {}
