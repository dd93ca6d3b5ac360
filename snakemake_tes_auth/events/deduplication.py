"""News of a job once: a restarted Snakemake reports again what it finds. The logger plugin asks here before an event
leaves it, and nobody after it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

MAX_BYTES = 256 * 1024 * 1024  # of an events file that is read back
MAX_JOBS = 1_000_000

Event = dict[str, Any]


class Deduplication:
    """`fresh` says whether an event is news, and remembers it. A job that is submitted as another task starts anew:
    whatever happens to that one is news.
    """

    def __init__(self, earlier: Iterable[Event] = ()) -> None:
        self._jobs: dict[str, tuple[str, set[str]]] = {}  # job -> the task it is, what was told of it
        self._rules: Any = None
        for event in earlier:
            self.fresh(event)

    def fresh(self, event: Event) -> bool:
        kind, job = event.get("kind"), event.get("job")
        if kind == "rules":
            news = bool(event.get("counts") != self._rules)
            self._rules = event.get("counts")
            return news
        if kind != "job" or not isinstance(job, str) or len(self._jobs) > MAX_JOBS:
            return True
        task, states = self._jobs.get(job, ("", set()))
        now = event.get("task")
        if isinstance(now, str) and now and now != task:
            task, states = now, states & {"planned"}
        word = str(event.get("state") or "usage")
        if word in ("queued", "failed"):  # queued again, for another reason
            word += str(event.get("message") or "")
        news = word not in states and not (word == "planned" and states)
        self._jobs[job] = (task, states | {word})
        return news


def earlier(path: Path) -> Iterable[Event]:
    """The events that a file holds, one JSON object a line; a last line that was cut off and nonsense are left out."""
    read = 0
    try:
        with path.open("rb") as handle:
            for line in handle:
                read += len(line)
                if read > MAX_BYTES:
                    return
                try:
                    event = json.loads(line)
                except ValueError:
                    continue
                if isinstance(event, dict):
                    yield event
    except OSError:
        return
