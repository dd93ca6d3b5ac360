"""A TES that says COMPLETE without having stored the outputs is found out, by the job that needs them or at the run's
end.
"""

from __future__ import annotations

import pytest

from tests.support.snakemake_node import Node
from tests.support.snakemake_pod import CHAIN, Pod, node, pod  # noqa: F401

pytestmark = pytest.mark.long


def test_a_missing_output_that_nobody_needs_fails_the_run_at_its_end_by_name(node: Node, pod: Pod) -> None:
    node.lies = {"second"}
    assert pod.workflow(CHAIN).start().end() == 1, pod.said()
    message = node.told("node", state="failed")[0]["message"]
    assert "end.txt" in message and "although" in message


def test_a_missing_output_fails_the_job_that_needs_it_by_name_and_at_once(node: Node, pod: Pod) -> None:
    node.lies = {"first"}
    assert pod.workflow(CHAIN).start().end() == 1, pod.said()
    message = node.told("node", state="failed")[0]["message"]
    assert "rule second" in message and "first.txt" in message and "although" in message
    assert len(node.of_rule("second")) == 1, "trying again would miss it again"
