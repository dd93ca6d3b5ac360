"""Answers that look like the Kubernetes API's and are none: a proxy's pages, other JSON, objects without what is
optional. Nothing is made twice, removed or overwritten by their word.
"""

from __future__ import annotations

import pytest

from gdi.kit.problem import ProblemError
from gdi.pods.answers import items_of, judge, keys_of, object_of
from gdi.pods.manifest import CONTAINER
from gdi.pods.status import status_of
from gdi.pods.upkeep import is_over
from tests.unit.pods.making import a_pod

NOW = 1_800_000_000.0
POD = {"metadata": {"name": "x", "uid": "u"}}


@pytest.mark.parametrize("status", [400, 401, 403, 404, 409, 422])
@pytest.mark.parametrize(
    "body", [b"<html>404 Not Found</html>", b"404 page not found", b'{"message": "no Route matched"}', b"[]", b""]
)
def test_a_proxys_refusal_says_nothing_about_a_pod(status: int, body: bytes) -> None:
    """Else a pod that runs is gone, and another one is made beside it."""
    with pytest.raises(ProblemError, match="not the Kubernetes API") as error:
        judge(status, body, "reading pod x")
    assert error.value.problem.status == 503


@pytest.mark.parametrize("answer", [{}, {"kind": "Status"}, {"metadata": None}, {"metadata": {"name": "x"}}])
def test_json_that_is_no_pod_is_none(answer: dict[str, object]) -> None:
    with pytest.raises(ProblemError, match="not what the Kubernetes API gives"):
        object_of(answer, "reading pod x")
    assert object_of(POD, "reading pod x") is POD


@pytest.mark.parametrize("answer", [{}, {"status": "ok"}, {"items": {}}, {"items": ["x"]}, {"items": [{}]}])
def test_json_that_is_no_listing_is_not_an_empty_one(answer: dict[str, object]) -> None:
    with pytest.raises(ProblemError, match="not what the Kubernetes API gives"):
        items_of(answer, "listing pods")
    assert items_of({"items": [POD]}, "listing pods") == [POD]
    assert items_of({"items": None}, "listing pods") == [], "as Go writes an empty list"


@pytest.mark.parametrize("answer", [{}, {"keys": []}, {"keys": ["x"]}, {"error": "x"}])
def test_keys_that_are_none_replace_no_others(answer: dict[str, object]) -> None:
    with pytest.raises(ProblemError, match="not what the Kubernetes API gives"):
        keys_of(answer, "reading the cluster's keys")


@pytest.mark.parametrize("made", [None, "", "yesterday"])
def test_a_pod_without_a_time_that_can_be_read_is_not_old(made: str | None) -> None:
    ended = {"name": CONTAINER, "state": {"terminated": {"exitCode": 0}}}
    held, over = a_pod(made=NOW, gate=True), a_pod(made=NOW, phase="Succeeded", containerStatuses=[ended])
    for pod in (held, over):
        pod["metadata"]["creationTimestamp"] = made
        status = status_of(pod, start_timeout=300, now=NOW)
        assert not is_over(pod, status, keep_seconds=60, now=NOW + 1e6)


def test_a_container_without_limits_is_killed_for_memory_all_the_same() -> None:
    killed = {"name": CONTAINER, "state": {"terminated": {"exitCode": 137, "reason": "OOMKilled"}}}
    pod = a_pod(made=NOW, phase="Failed", containerStatuses=[killed])
    pod["spec"]["containers"] = [{"name": CONTAINER, "resources": {"limits": None}}]
    assert "more memory than its limit" in status_of(pod, start_timeout=300, now=NOW).reason
