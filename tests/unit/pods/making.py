"""Pods as the Kubernetes API gives them, for tests of what is read from them."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from gdi.pods import manifest

NAME = "r-0123456789abcdef0123-node-a-1-1"


def at(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def a_pod(
    name: str = NAME,
    *,
    made: float,
    phase: str = "Pending",
    gate: bool = False,
    let_go: float | None = None,
    **status: Any,
) -> dict[str, Any]:
    annotations = {} if let_go is None else {manifest.LET_GO: at(let_go)}
    return {
        "metadata": {
            "name": name,
            "uid": f"uid-of-{name}",
            "creationTimestamp": at(made),
            "annotations": annotations,
            "resourceVersion": "7",
        },
        "spec": {"schedulingGates": [{"name": manifest.GATE}] if gate else []},
        "status": {"phase": phase, **status},
    }
