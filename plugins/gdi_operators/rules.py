"""What the run's progress says of one rule: waiting, at work, or how it ended over all nodes. Pure; the triggers and
the tests ask it.

Peer: astronomer-cosmos `operators/_watcher/state.py` and `aggregation.py` (one producer, many watchers).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from gdi.contracts.progress import NodeProgress, Progress, RuleProgress

State = Literal["success", "failed", "skipped"]


@dataclass(frozen=True)
class Verdict:
    """How a rule ended, and why it is told so."""

    state: State
    why: str


def verdict(progress: Progress, rule: str) -> Verdict | None:
    """None while it may still change.

    Red as soon as a job of any node failed for good (Snakemake reports a job that it will try again as queued). Green
    when every node is done with it. Skipped where it had no job, or where the run ended before its jobs were done: then
    some other task is red and says why.
    """
    parts = {r.node: r for r in progress.rules if r.rule == rule}
    red = sorted(node for node, part in parts.items() if part.failed)
    if red:
        return Verdict("failed", f"a job failed at {', '.join(red)}")
    over = progress.state == "closed"
    planned = {r.node for r in progress.rules}  # a node tells all its rules at once, before its first job
    if not over and not all(_settled(node, parts.get(node.node), node.node in planned) for node in progress.nodes):
        return None
    unfinished = [
        n for n in progress.nodes if (p := parts.get(n.node)) is not None and p.done < p.total and n.state != "success"
    ]
    if unfinished:
        return Verdict("skipped", f"the run ended before its jobs were done at {', '.join(n.node for n in unfinished)}")
    if any(part.total for part in parts.values()):
        return Verdict("success", "all its jobs are done")
    return Verdict(
        "skipped", "it had no job in this run" if planned or not over else "the run ended before its jobs were known"
    )


def _settled(node: NodeProgress, part: RuleProgress | None, planned: bool) -> bool:
    """Whether nothing more will come of this node. A cancelled node may come back, with another pod, until the run is
    closed.
    """
    if node.state in ("success", "failed"):
        return True
    if part is None:
        return planned
    return part.total > 0 and part.done >= part.total


def describe(progress: Progress, rule: str) -> str:
    """Where the rule stands at each node, in a line; empty before its first job is known. Node ids and numbers only: no
    words of the workflow's.
    """
    parts = []
    for part in sorted((r for r in progress.rules if r.rule == rule), key=lambda r: r.node):
        doing = [f"{part.done} of {part.total} jobs done"]
        doing += [f"{number} {what}" for number, what in ((part.running, "running"), (part.failed, "failed")) if number]
        parts.append(f"{part.node}: {', '.join(doing)}")
    return "; ".join(parts)
