"""A node whose name begins another's writes no events under the other's pods: theirs would be taken for known."""

from __future__ import annotations

from typing import Any, cast

import pytest

from gdi.contracts.events import Event, EventBatch
from gdi.contracts.ids import make_pod_name
from gdi.kit.problem import ProblemError
from token_broker.authentication.callers import GatewayCaller
from token_broker.events.events import Events

RUN, OTHER = "r-" + "0" * 20, "r-" + "1" * 20
PLAN = [{"node": node, "placement": "node"} for node in ("fi", "fi-csc", "fi-1")]


def of_node(node: str, source: str) -> str:
    class Itself:
        id = node

    run = cast(Any, {"id": RUN, "plan": PLAN, "state": "open", "closed_at": None})
    event = Event(seq=1, time=1.0, kind="node", state="running")
    return Events._of_node(run, GatewayCaller(cast(Any, Itself())), EventBatch(source=source, events=[event]))


@pytest.mark.parametrize("node", ["fi", "fi-csc", "fi-1"])
def test_each_writes_under_its_own_pods(node: str) -> None:
    assert of_node(node, make_pod_name(RUN, node, 2, 1)) == node


@pytest.mark.parametrize(
    "source",
    [make_pod_name(RUN, "fi-csc", 1, 1), make_pod_name(RUN, "fi-1", 1, 1), make_pod_name(OTHER, "fi", 1, 1), "fi"],
)
def test_and_under_no_others(source: str) -> None:
    with pytest.raises(ProblemError) as refused:
        of_node("fi", source)
    assert refused.value.slug == "wrong-source"
