"""What of a run's events leaves the node: nothing that a workflow may choose, unless a person approved the workflow.
Pure.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterable
from typing import Literal

from gdi.contracts.events import Event
from gdi.contracts.ids import RULE_NAME, matches

# What an unapproved workflow may say of a job: which one, by number, and how often it was tried.
NUMBERED = re.compile(r"[0-9]{1,7}")
MAX_TRIES, MAX_JOBS, MAX_NUMBER = 20, 1_000_000, 10_000_000


def public_events(
    events: Iterable[Event], *, approved: bool, progress: Literal["rules", "jobs"], lines: bool, rules: frozenset[str]
) -> list[Event]:
    """The events as they may be told. Of a workflow that nobody approved: rules of its own list, states, one error
    class. Of the others also wildcards and error classes (with `progress: jobs`), and lines where the policy says so.
    The end of the node's part is the agent's to tell.
    """
    found = []
    for event in events:
        one = _one(event, approved, progress, lines, rules)
        if one is not None:
            found.append(one)
    return found


def _one(event: Event, approved: bool, progress: str, lines: bool, rules: frozenset[str]) -> Event | None:
    if event.seq > MAX_NUMBER:
        return None
    when = event.time if approved else time.time()
    base = {"seq": event.seq, "time": float(int(when)), "kind": event.kind, "state": event.state}
    if event.kind == "node":
        return Event.model_validate(base) if event.state in ("starting", "running") else None
    if event.kind == "rules":
        counts = {r: min(count, MAX_JOBS) for r, count in event.counts.items() if _known(r, rules, approved)}
        return Event.model_validate({**base, "counts": counts})
    if event.kind == "progress":
        return Event.model_validate({**base, "done": _most(event.done), "total": _most(event.total)})
    if event.kind != "job" or not _known(event.rule or "", rules, approved) or event.job is None:
        return None
    facts: dict[str, object] = {"rule": event.rule, "job": event.job, "tries": event.tries}
    failed = event.state == "failed"
    if not approved:
        if not NUMBERED.fullmatch(event.job):
            return None
        facts["tries"] = min(event.tries or 0, MAX_TRIES) or None
        facts = {name: value for name, value in facts.items() if value is not None}
        more = {"error_class": "TaskFailed", "exit_code": 1} if failed else {}
        return Event.model_validate({**base, **facts, **more})
    facts |= {"task": event.task, "error_class": event.error_class, "exit_code": event.exit_code}
    facts |= {"dataset": event.dataset, "message": event.message}
    if progress == "jobs":
        facts |= {"wildcards": event.wildcards, "usage": _usage(event)}
    if lines:
        facts["line"] = event.line
    return Event.model_validate({**base, **{k: v for k, v in facts.items() if v not in (None, {})}})


def _most(number: int | None) -> int | None:
    return None if number is None else min(number, MAX_JOBS)


def _usage(event: Event) -> dict[str, float]:
    """Times in whole seconds and what was asked for; no bytes."""
    return {k: float(round(v)) if k.endswith("_s") else v for k, v in event.usage.items() if not k.endswith("_bytes")}


def _known(rule: str, rules: frozenset[str], approved: bool) -> bool:
    """A rule's name; of an unapproved workflow one that its files name, so that a job cannot make names up."""
    return matches(RULE_NAME, rule) and (approved or rule in rules)
