"""What of a run's events leaves the node: nothing that a workflow may choose, unless a person approved the workflow;
and of an approved one no free text either (docs/disclosure.md, 5). Pure.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, get_args

from gdi.contracts.events import Event
from gdi.contracts.ids import RULE_NAME, matches
from gdi.contracts.task_errors import LASTING, DenialClass
from node_gateway import door

# What an unapproved workflow may say of a job: which one, by number, and how often it was tried.
NUMBERED = re.compile(r"[0-9]{1,7}")
MAX_TRIES, MAX_JOBS, MAX_NUMBER = 20, 1_000_000, 10_000_000


PLATFORM: frozenset[str] = frozenset({*LASTING, *get_args(DenialClass), door.FAILED, "NotAccepted"})
"""Error classes that are the platform's own words."""
SNAKEMAKE = (
    "MissingInputException",
    "MissingOutputException",
    "MissingRuleException",
    "AmbiguousRuleException",
    "CyclicGraphException",
    "ProtectedOutputException",
    "IncompleteFilesException",
    "LockException",
    "RuleException",
)
"""What Snakemake calls its own failures: the first that its last words name is told."""
TASK = re.compile(r"[A-Za-z0-9._:-]{1,64}")


@dataclass(frozen=True)
class Telling:
    """What may be told of one order. `rules` are those of its files, `datasets` the order's, `classes` the error
    classes that the policy lets pass beside the platform's own; `lines`: also lines of input.
    """

    approved: bool
    rules: frozenset[str] = frozenset()
    progress: Literal["rules", "jobs"] = "jobs"
    lines: bool = False
    classes: frozenset[str] = frozenset()
    datasets: frozenset[str] = frozenset()


def public_events(events: Iterable[Event], telling: Telling) -> list[Event]:
    """The events as they may be told. Of a workflow that nobody approved: rules of its own list, states, one error
    class. Of the others also error classes, and wildcards with `progress: jobs`; what failed is told in words made
    here. The end of the node's part is the agent's to tell.
    """
    found = []
    for event in events:
        one = _one(event, telling)
        if one is not None:
            found.append(one)
    return found


def failed_part(event: Event, telling: Telling) -> tuple[str, str | None]:
    """Why the node's part failed, in words made here, and the dataset: of a job that failed, or of Snakemake's end."""
    dataset = _dataset(event, telling)
    if event.kind == "job":
        return _sentence(event, telling), dataset
    words = event.message or ""
    name = next((one for one in SNAKEMAKE if one in words), None)
    on = f" on dataset {dataset}" if dataset else ""
    return f"Snakemake ended{f' with {name}' if name else ''}{on}; the node has its log", dataset


def _dataset(event: Event, telling: Telling) -> str | None:
    named = (d for d in sorted(telling.datasets, key=len, reverse=True) if d in (event.message or ""))
    return event.dataset if event.dataset in telling.datasets else next(named, None)


def _class(event: Event, telling: Telling) -> str | None:
    if event.error_class is None or event.error_class in telling.classes | PLATFORM:
        return event.error_class
    return door.FAILED


def _sentence(event: Event, telling: Telling) -> str:
    dataset, name = _dataset(event, telling), _class(event, telling) or door.FAILED
    parts = [f"rule {event.rule} failed", *([f"on dataset {dataset}"] if dataset else []), f"with {name}"]
    if telling.lines and event.line is not None:
        parts.append(f"at line {event.line}")
    return " ".join(parts)


def _one(event: Event, telling: Telling) -> Event | None:
    approved, rules = telling.approved, telling.rules
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
    facts |= {"error_class": _class(event, telling), "exit_code": door.exit_code(event.exit_code)}
    facts |= {"dataset": _dataset(event, telling), "message": _sentence(event, telling) if failed else None}
    if event.task is not None and TASK.fullmatch(event.task):
        facts["task"] = event.task
    if telling.progress == "jobs":
        facts |= {"wildcards": event.wildcards, "usage": _usage(event)}
    if telling.lines:
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
