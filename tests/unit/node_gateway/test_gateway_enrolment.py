"""A node that is not enrolled says so where its operator looks, and what to do about it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any
from unittest.mock import AsyncMock, MagicMock

import pytest

from gdi.contracts.nodes import Nodes, NodeStatus
from gdi.kit.problem import ProblemError
from node_gateway.broker import BrokerConnection
from node_gateway.health import Health

HERE = NodeStatus(node="node-a", life="up", placement="coordinator")


class Asked:
    """A broker's client that answers `answer`, or raises it."""

    def __init__(self, answer: Any) -> None:
        self.answer, self.count = answer, 0

    async def nodes(self) -> Nodes:
        self.count += 1
        if isinstance(self.answer, Exception):
            raise self.answer
        return Nodes(nodes=self.answer)


@pytest.mark.parametrize(
    ("answer", "placement", "told"),
    [
        (ProblemError(401, "unauthenticated", "who?"), "coordinator", "not enrolled: the broker does not know this"),
        ([], "coordinator", "not enrolled: the broker knows no node node-a"),
        ([HERE], "node", "placement differs: the enrolment says coordinator, the policy node"),
        (ProblemError(503, "vault-unavailable", "later"), "coordinator", "not known (vault-unavailable)"),
        ([HERE], "coordinator", "ok"),
    ],
    ids=["unknown key", "unknown node", "placement", "away", "enrolled"],
)
async def test_what_the_operator_reads(answer: Any, placement: str, told: str) -> None:
    client = Asked(answer)
    broker = BrokerConnection(client, "node-a", fresh_for=5, wait=1)  # type: ignore[arg-type]
    assert (await broker.enrolment(placement)).startswith(told)
    await broker.enrolment(placement)
    assert client.count == 1, "the broker is not asked at each look"


async def test_the_operators_readyz_says_it() -> None:
    broker = BrokerConnection(Asked([]), "node-a", fresh_for=5, wait=1)  # type: ignore[arg-type]
    policy = SimpleNamespace(
        current=lambda: SimpleNamespace(placement="coordinator"), problem="", datasets=SimpleNamespace(problem="")
    )
    made: Any = Health(MagicMock(), AsyncMock(), {}, policy, AsyncMock(), enrolment=broker.enrolment)  # type: ignore[arg-type]
    told = await made.look()  # what it answers, on the internal and the operations' listener
    assert told["enrolment"].startswith("not enrolled: the broker knows no node node-a")
