"""Whose error classes a pod of the node's own is told: those of workflows that a person of the node's trust read."""

from __future__ import annotations

import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from gdi.contracts.orders import OrderClaims
from node_gateway.auth import Caller
from node_gateway.node_orders import NodeOrders
from node_gateway.policy import Policy
from node_gateway.tasks.service import Tasks
from tests.support.hostile_coordinator import RUN, USER, _database

DIGEST = "sha256:" + "0" * 64


async def test_a_workflow_that_a_reviewers_key_approved_tells_its_classes_to_the_nodes_own_pods(tmp_path: Path) -> None:
    database = await _database(tmp_path)
    orders = NodeOrders(database)
    claims: dict[str, Any] = {"jti": "a" * 32, "sub": USER, "node": "node-a", "workflow": "counts", "digest": DIGEST}
    claims |= {"datasets": ["EGAD1"], "run": RUN, "attempt": 1, "kind": "analyse", "deadline": time.time() + 60}
    await orders.add(OrderClaims.model_validate(claims), 1)
    policy = SimpleNamespace(current=lambda: Policy.model_validate({"workflows": [{"approved_by": "ann"}]}))
    tasks: Any = SimpleNamespace(policy=policy, approved=orders.approved, workspace=SimpleNamespace(name="w"))
    own = Caller(USER, RUN, "node-a", 1, "counts", DIGEST, frozenset(), frozenset(), 1, "pod", own=True)
    order = await orders.get(RUN, "analyse", 1)
    assert order is not None
    for approved in (False, True):
        order = await orders.change(order, state="running", approved=approved)
        assert ("VcfFormatError" in (await Tasks._lens(tasks, own)).classes) is approved
    other = Caller(USER, RUN, "node-a", 1, "counts", DIGEST, frozenset(), frozenset(), 1, "pod")
    assert not (await Tasks._lens(tasks, other)).classes, "the coordinator's word approves nothing"
    await database.close()
