"""What a DAG's author may say of a pod: where it runs and its size, within limits; nothing of what it is."""

from __future__ import annotations

from typing import Any

import pytest

from gdi.pods.config import PodConfig, PodLimits
from gdi.pods.manifest import pod
from gdi.pods.model import LauncherError, PodSpec
from gdi.pods.template import merged, wish_of
from tests.unit.pods.making import NAME

CONFIG = PodConfig.model_validate({"image": "gdi-snakemake:1", "limits": {"node_selectors": {"disk": ["ssd"]}}})
SPEC = PodSpec(
    name=NAME,
    run=NAME[:22],
    attempt=1,
    node="node-a",
    workflow="probe",
    digest="sha256:" + "0" * 64,
    gateway_url="https://gateway.test",
    audience="https://gateway.test",
)


def asked(
    container: dict[str, Any] | None = None, metadata: dict[str, Any] | None = None, **spec: Any
) -> dict[str, Any]:
    return {"metadata": metadata or {}, "spec": {"containers": [{"name": "snakemake", **(container or {})}], **spec}}


def made(wanted: dict[str, Any]) -> dict[str, Any]:
    return merged(wanted, pod(SPEC, CONFIG, {"Snakefile": b""}, wish_of(wanted, CONFIG.limits)))


def test_an_author_places_and_sizes_a_pod_within_the_limits() -> None:
    affinity = {"podAntiAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": []}}
    wanted = asked(
        {"resources": {"requests": {"cpu": "2"}, "limits": {"memory": "2Gi"}}, "env": [], "command": []},
        {"labels": {"team": "blue", "try_number": "1", "gdi-run": "r-other"}, "annotations": {"gdi-stop": "cancel"}},
        affinity=affinity,
        nodeSelector={"disk": "ssd"},
        hostNetwork=False,
        restartPolicy="Never",
    )
    found = made(wanted)
    assert found["spec"]["affinity"] == affinity and found["spec"]["nodeSelector"] == {"disk": "ssd"}
    resources = found["spec"]["containers"][0]["resources"]
    assert resources["requests"]["cpu"] == "2" and resources["limits"]["memory"] == "2Gi"
    labels = found["metadata"]["labels"]
    assert labels["team"] == "blue" and labels["gdi-run"] == SPEC.run and "try_number" not in labels
    assert "gdi-stop" not in found["metadata"]["annotations"] and found["metadata"]["name"] == NAME
    assert made(asked())["spec"] == pod(SPEC, CONFIG, {"Snakefile": b""})["spec"], "saying nothing changes nothing"


@pytest.mark.parametrize(
    ("wanted", "named"),
    [
        (asked(hostNetwork=True), "spec.hostNetwork"),
        (asked(serviceAccountName="admin"), "spec.serviceAccountName"),
        (asked(volumes=[{"name": "x", "hostPath": {"path": "/"}}]), "spec.volumes"),
        (asked(securityContext={"runAsUser": 0}), "spec.securityContext"),
        (asked(initContainers=[{"name": "x"}]), "spec.initContainers"),
        (asked(automountServiceAccountToken=True), "spec.automountServiceAccountToken"),
        (asked({"image": "mine"}), "spec.containers.image"),
        (asked({"command": ["sh"]}), "spec.containers.command"),
        (asked({"env": [{"name": "X", "value": "y"}]}), "spec.containers.env"),
        (asked({"securityContext": {"privileged": True}}), "spec.containers.securityContext"),
        ({"spec": {"containers": [{"name": "base", "image": "x"}]}}, "base"),
    ],
)
def test_what_only_the_installations_operator_sets_is_refused_by_name(wanted: dict[str, Any], named: str) -> None:
    with pytest.raises(LauncherError, match=named):
        made(wanted)


@pytest.mark.parametrize(
    ("wanted", "why"),
    [
        (asked({"resources": {"limits": {"memory": "64Gi"}}}), "more than the 4Gi"),
        (asked({"resources": {"limits": {"nvidia.com/gpu": "1"}}}), "nvidia.com/gpu"),
        (asked({"resources": {"limits": {"memory": "lots"}}}), "not understood"),
        (asked(nodeSelector={"role": "control"}), "pod.node_selector"),
        (asked(tolerations=[{"key": "x"}]), "pod.tolerations"),
        (asked(priorityClassName="system-node-critical"), "pod.priority_class"),
    ],
)
def test_what_is_beyond_the_limits_is_refused(wanted: dict[str, Any], why: str) -> None:
    with pytest.raises(LauncherError, match=why):
        wish_of(wanted, PodLimits())
