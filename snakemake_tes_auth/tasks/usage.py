"""What a finished task used, read from its TES log, told as an event. Beside the work: a few questions a second; what
is left over comes by one listing.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncGenerator, Callable, Mapping
from datetime import datetime
from typing import Any, Protocol

from tes.models import Resources, Task, TaskLog

from gdi.contracts.tes import View, id_of
from gdi.kit.problem import ProblemError
from snakemake_tes_auth.retry import Away, Refusal

PAUSE = 0.1  # seconds between two questions
WAITING = 100  # finished tasks that wait to be asked for one by one; what is more waits for the listing at the end
FINISH_BOUND = 20.0  # seconds that the end of a run may wait for it


class TaskReader(Protocol):
    """As much of a TES client as is needed here."""

    async def get(self, identifier: str, view: View = "FULL") -> Task: ...

    def pages(self, tags: Mapping[str, str], *, view: View = "MINIMAL") -> AsyncGenerator[list[Task], None]: ...


class Usage:
    """`ended` may be called on any thread; all else runs on the session's loop. `tell(who, usage)` gets what `ended`
    was given.
    """

    def __init__(
        self, tes: TaskReader, tags: dict[str, str], tell: Callable[[dict[str, Any], dict[str, float]], None]
    ) -> None:
        self._tes, self._tags, self._tell = tes, tags, tell
        self._now: deque[str] = deque()
        self._who: dict[str, dict[str, Any]] = {}

    def ended(self, identifier: str, who: dict[str, Any]) -> bool:
        """Whether `ask` is to be started: nobody asks at present."""
        self._who[identifier] = who
        if len(self._now) < WAITING:
            self._now.append(identifier)
        return len(self._now) == 1

    async def ask(self) -> None:
        """Asks for what waits, one after the other; ends when nothing does."""
        while self._now:
            identifier = self._now[0]
            with contextlib.suppress(ProblemError, Away, Refusal):
                self._found(await self._tes.get(identifier, "BASIC"))
            self._who.pop(identifier, None)
            await asyncio.sleep(PAUSE)
            self._now.popleft()

    async def finish(self) -> None:
        """At the end of the run: what was not asked for by then, in one listing. What the TES does not tell in time
        stays untold.
        """
        self._now.clear()
        with contextlib.suppress(ProblemError, Away, Refusal, TimeoutError):
            async with asyncio.timeout(FINISH_BOUND):
                if self._who:
                    async for page in self._tes.pages(self._tags, view="BASIC"):
                        for task in page:
                            self._found(task)
                        if not self._who:
                            return

    def _found(self, task: Task) -> None:
        who = self._who.pop(id_of(task), None)
        if who is not None and (used := usage(task)):
            self._tell(who, used)


def usage(task: Task) -> dict[str, float]:
    """Seconds waited (`queued_s`), seconds in all with staging (`total_s`) and of the command (`command_s`), what was
    asked for (`cores`, `ram_gb`, `disk_gb`) and bytes stored. What the TES leaves out is left out. TES 1.1,
    tesTask.logs and tesTask.resources."""
    log, resources = task.logs[-1] if task.logs else TaskLog(), task.resources or Resources()
    commands = log.logs or []
    spans = {
        "queued_s": _span(task.creation_time, log.start_time),
        "total_s": _span(log.start_time, log.end_time),
        "command_s": _span(commands[0].start_time, commands[-1].end_time) if commands else None,
    }
    request = {"cores": resources.cpu_cores, "ram_gb": resources.ram_gb, "disk_gb": resources.disk_gb}
    found = {name: seconds for name, seconds in spans.items() if seconds is not None}
    found |= {name: float(number) for name, number in request.items() if number}
    sizes = [output.size_bytes for output in log.outputs or [] if output.size_bytes is not None]
    if sizes:
        found["output_bytes"] = float(sum(sizes))
    return found


def _span(began: datetime | None, ended: datetime | None) -> float | None:
    if began is None or ended is None:
        return None
    return max(0.0, round((ended - began).total_seconds(), 3))
