"""What Prometheus reads of the nodes: when each agent was last heard, and how many of its orders go on."""

from __future__ import annotations

from token_broker.metrics import Metrics


def test_a_node_that_was_never_heard_is_zero_and_one_that_left_is_gone() -> None:
    metrics = Metrics()
    metrics.nodes_now([("node-a", 1000.5, {"running": 2}), ("node-b", None, {})])
    text = metrics.text().decode()
    assert 'token_broker_node_last_heard_timestamp_seconds{node="node-a"} 1000.5' in text
    assert 'token_broker_node_last_heard_timestamp_seconds{node="node-b"} 0.0' in text
    assert 'token_broker_node_orders{node="node-a",state="running"} 2.0' in text
    metrics.nodes_now([("node-b", None, {"waiting": 1})])
    text = metrics.text().decode()
    assert "node-a" not in text and 'token_broker_node_orders{node="node-b",state="waiting"} 1.0' in text
