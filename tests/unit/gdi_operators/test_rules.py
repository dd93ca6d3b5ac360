"""What a rule's task shows: red at once, green when every node is done, never an end that may still change, never a
wrong word about another attempt.
"""

from __future__ import annotations

from typing import Any

import pytest

from gdi.contracts.progress import NodeProgress, Progress, RuleProgress
from gdi_operators.rules import describe, verdict


def progress(nodes: dict[str, str], rules: list[tuple[str, str, int, int, int]], **more: Any) -> Progress:
    """rules: (node, rule, total, done, failed)."""
    return Progress(
        run="r-" + "0" * 20,
        attempt=1,
        nodes=[NodeProgress(node=n, state=s) for n, s in nodes.items()],  # type: ignore[arg-type]
        rules=[RuleProgress(node=n, rule=r, total=t, done=d, failed=f) for n, r, t, d, f in rules],
        **{"state": "open", **more},
    )


BOTH = {"node-a": "running", "node-b": "running"}


@pytest.mark.parametrize(
    ("nodes", "rules", "closed", "state"),
    [
        ({"node-a": "waiting", "node-b": "waiting"}, [], False, None),
        (BOTH, [("node-a", "x", 2, 2, 0)], False, None),  # node-b has not said what it will run
        (BOTH, [("node-a", "x", 2, 2, 0), ("node-b", "y", 1, 0, 0)], False, "success"),  # it has: no job of this rule
        (BOTH, [("node-a", "x", 2, 2, 0), ("node-b", "x", 2, 1, 0)], False, None),
        (BOTH, [("node-a", "x", 2, 0, 1)], False, "failed"),  # red at once, whatever the others do
        (BOTH, [("node-a", "y", 1, 0, 0), ("node-b", "y", 1, 0, 0)], False, "skipped"),
        (BOTH, [("node-a", "y", 1, 0, 0)], False, None),
        (
            {"node-a": "success", "node-b": "running"},
            [("node-a", "x", 2, 1, 0), ("node-b", "x", 1, 1, 0)],
            False,
            "success",
        ),  # an event was lost
        (
            {"node-a": "failed", "node-b": "failed"},
            [("node-a", "x", 2, 1, 0), ("node-b", "x", 1, 1, 0)],
            False,
            "skipped",
        ),  # another rule is red
        (
            {"node-a": "cancelled", "node-b": "cancelled"},
            [("node-a", "x", 2, 1, 0), ("node-b", "x", 1, 0, 0)],
            False,
            None,
        ),  # may come back
        (
            {"node-a": "cancelled", "node-b": "cancelled"},
            [("node-a", "x", 2, 1, 0), ("node-b", "x", 1, 0, 0)],
            True,
            "skipped",
        ),
        ({"node-a": "failed", "node-b": "waiting"}, [], True, "skipped"),  # nothing was ever planned
        (
            {"node-a": "success", "node-b": "success"},
            [("node-a", "x", 2, 2, 0), ("node-b", "x", 1, 1, 0)],
            True,
            "success",
        ),
        (
            {"node-a": "success", "node-b": "success"},
            [("node-a", "x", 2, 2, 0), ("node-b", "x", 1, 0, 1)],
            True,
            "failed",
        ),
    ],
)
def test_a_rule_ends_as_its_jobs_do_and_not_before(
    nodes: dict[str, str], rules: list[Any], closed: bool, state: str | None
) -> None:
    found = verdict(progress(nodes, rules, state="closed" if closed else "open"), "x")
    assert (found.state if found else None) == state


def test_what_is_told_of_a_rule_holds_no_word_of_the_workflows() -> None:
    hostile = progress(BOTH, [("node-b", "x", 3, 1, 1), ("node-a", "x", 2, 2, 0), ("node-a", "<script>", 1, 0, 0)])
    hostile.nodes[0].message = "<script>"
    assert describe(hostile, "x") == "node-a: 2 of 2 jobs done; node-b: 1 of 3 jobs done, 1 failed"
    assert describe(hostile, "unknown") == ""
