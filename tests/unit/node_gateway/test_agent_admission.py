"""An order is admitted by the same decision as a run at the gateway's own door."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from node_gateway.agent.decision import RefusedOrder
from node_gateway.agent.judge import Judge
from node_gateway.node_orders import NodeOrders
from tests.support.disclosure_node import DIGEST, PEOPLE, disclosure_node


@pytest.mark.parametrize("listed", [True, False], ids=["listed", "not listed"])
async def test_an_order_of_what_is_not_open_is_refused_before_anything_runs(tmp_path: Path, listed: bool) -> None:
    async with disclosure_node(tmp_path / "node", tmp_path / "empty.db") as node:
        node.describe("DS1", identifiers="one-per-person" if listed else None)
        await node.open_epoch("DS1", PEOPLE)
        rest: Any = SimpleNamespace()
        policy, orders = node.releases.policy, NodeOrders(node.database)
        judge = Judge("node-a", tmp_path, "http://broker", policy, rest, rest, orders, rest, rest, rest)
        claims = cast(Any, SimpleNamespace(workflow="allele-frequency", digest=DIGEST, datasets=["DS1"]))
        if listed:
            await judge._open(claims)
            return
        with pytest.raises(RefusedOrder, match="are not listed") as refused:
            await judge._open(claims)
        assert refused.value.reason == "not-open"
