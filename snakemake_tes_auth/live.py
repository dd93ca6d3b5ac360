"""The tasks of this run: which are live (our own registry), which an earlier process left, and what one round of asking says about them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable
from dataclasses import dataclass, field

from gdi_common.problem import ProblemError
from snakemake_tes_auth.tes import LIVE, Task, TesClient, state_of, tags_of

PAGE = 1000
CANCEL_WIDTH = 16
CANCEL_BOUND = 40.0  # seconds until cancelling gives up and says so


@dataclass(frozen=True)
class Found:
    """A task of an earlier process: its id, state and `gdi-try`."""

    identifier: str
    state: str
    tries: str
    created: str


@dataclass
class LiveTasks:
    """What runs now, by task id. Snakemake's own list of active jobs is empty in the middle of a status check, so it cannot serve for cancelling."""

    tes: TesClient
    run: str
    live: set[str] = field(default_factory=set)
    known: int = 0  # how many tasks the run has at the TES: what a listing costs
    closing: bool = False
    earlier: dict[str, list[Found]] = field(default_factory=dict)

    @property
    def _tags(self) -> dict[str, str]:
        return {"gdi-run": self.run}

    async def load(self) -> None:
        """Reads what earlier processes of this run left at the TES, by job key, newest first."""
        async for task in self.tes.tasks(self._tags, view="BASIC", page_size=256):
            self.known += 1
            tags = tags_of(task)
            if key := tags.get("gdi-job"):
                found = Found(task["id"], state_of(task), str(tags.get("gdi-try", "")), str(task.get("creation_time", "")))
                self.earlier.setdefault(key, []).append(found)
        for each in self.earlier.values():
            each.sort(key=lambda f: f.created, reverse=True)

    async def create(self, task: Task) -> str:
        """Makes a task and registers it in one step of the loop, so that cancelling knows it however its caller ends."""
        if self.closing:
            raise asyncio.CancelledError
        identifier = await self.tes.create(task)
        self.live.add(identifier)
        self.known += 1
        return identifier

    def ended(self, identifier: str) -> None:
        self.live.discard(identifier)

    async def states(self, wanted: Iterable[str]) -> dict[str, str | None]:
        """The state of each wanted task; None where the TES knows it no more. One list of the run, or single calls where those are fewer."""
        ids = set(wanted)
        found: dict[str, str | None] = {}
        if len(ids) > max(1, -(-self.known // PAGE)):
            count = 0
            async for task in self.tes.tasks(self._tags, page_size=PAGE):
                count += 1
                if task["id"] in ids:
                    found[task["id"]] = state_of(task)
            self.known = max(count, 1)
        for identifier in ids - found.keys():  # a new task may be missing from a list: only its own call can say that it is gone
            try:
                found[identifier] = state_of(await self.tes.get(identifier, "MINIMAL"))
            except ProblemError as error:
                if error.problem.status != 404:
                    raise
                found[identifier] = None
        return found

    async def cancel_all(self) -> int:
        """Cancels everything of this run that lives, also what was being created; how many are still live after at most 40 s."""
        self.closing = True
        width = asyncio.Semaphore(CANCEL_WIDTH)
        asked: dict[str, float] = {}

        async def cancel(identifier: str) -> None:
            async with width:
                await self.tes.cancel(identifier)

        until = time.monotonic() + CANCEL_BOUND
        left = set(self.live)
        try:
            async with asyncio.timeout(CANCEL_BOUND):
                while True:
                    now = time.monotonic()
                    due = [i for i in left if now - asked.get(i, -1e9) > 5]
                    asked.update(dict.fromkeys(due, now))
                    await asyncio.gather(*(cancel(i) for i in due))
                    left = {t["id"] async for t in self.tes.tasks(self._tags, page_size=PAGE) if state_of(t) in LIVE}
                    if not left or time.monotonic() > until:
                        break
                    await asyncio.sleep(0.3)
        except TimeoutError:
            pass
        self.live = left
        return len(left)
