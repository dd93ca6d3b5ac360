"""A node's pods in one attempt, numbered from 1: a replacement has the next number and fences those before it."""

from __future__ import annotations

from collections.abc import Mapping

from gdi.contracts.ids import make_pod_name, node_of_pod
from gdi.pods.model import LauncherError, PodStatus

MAX_GENERATIONS = 60
TOO_MANY = f"{MAX_GENERATIONS} pods were started for this attempt; close the run and start anew"


def name_of(run: str, node: str, attempt: int, generation: int) -> str:
    """The name of a generation's pod."""
    return make_pod_name(run, node, attempt, generation)


def generation_of(name: str) -> int:
    """The number in a pod's name. LauncherError where it is no Snakemake pod's."""
    node_in(name)
    return int(name.rsplit("-", 1)[1])


def node_in(name: str) -> str:
    """The node in a pod's name. LauncherError where it is no Snakemake pod's."""
    node = node_of_pod(name)
    if node is None:
        raise LauncherError(f"{name[:80]!r} is not the name of a Snakemake pod")
    return node


def latest(pods: Mapping[str, PodStatus]) -> tuple[int, PodStatus | None]:
    """(generation, status) of the newest of an attempt's pods by name; (0, None) where there is none."""
    found = {generation_of(name): status for name, status in pods.items()}
    return max(found.items(), key=lambda item: item[0], default=(0, None))


def selector(run: str, node: str, attempt: int) -> str:
    """The label selector of a node's pods in an attempt."""
    return f"gdi-run={run},gdi-node={node},gdi-attempt={attempt}"
