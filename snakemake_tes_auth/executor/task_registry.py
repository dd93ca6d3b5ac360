"""The tasks of this run: which are live (our own registry), which an earlier process left, and what one round of asking
says about them.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable
from contextlib import aclosing
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TypeVar

from tes.models import Task

from gdi.contracts.tes import ENDING, LIVE, changed, id_of, state_of, tags_of
from gdi.kit.problem import ProblemError
from gdi.kit.retry import Failure, RetryPolicy, acall_again
from snakemake_tes_auth.retry import Away
from snakemake_tes_auth.tes.client import BrokenList, TesClient

T = TypeVar("T")
SINGLES = 64  # tasks asked for one by one in a round, at most
WIDTH = 16  # single calls under way at once
LAG = 10.0  # seconds that a list may lag behind a creation before its task is asked for by itself
FORGOTTEN_AFTER = 3.0  # seconds between two 404s until a task counts as forgotten
CANCEL_BOUND = 40.0  # seconds until cancelling gives up and says so
CREATION_BOUND = 10.0  # seconds that cancelling waits for creations under way
ASK_AGAIN = 5.0  # seconds until a task that still lives is asked to end once more


@dataclass(frozen=True)
class Found:
    """A task of an earlier process: its id, state, `gdi-try` and `gdi-hash`, and when the TES made or began it (long
    ago where it does not say: then every input is newer).
    """

    identifier: str
    state: str
    tries: str
    created: datetime
    hash: str = ""


@dataclass
class TaskRegistry:
    """What runs now, by task id. Snakemake's own list of active jobs is empty in the middle of a status check, so it
    cannot serve for cancelling.

    `place` is where only one Snakemake at a time works (tag `gdi-place`): what an earlier one of another workflow or
    configuration left there is nobody's any more, and `strays` are those tasks that live, with the URLs that they
    write. "" where there is no such place.
    """

    tes: TesClient
    run: str
    place: str = ""
    live: dict[str, float] = field(default_factory=dict)  # task id -> when it was created or adopted, monotonic
    known: int = 0  # how many tasks the run has at the TES: what a listing costs
    closing: bool = False
    earlier: dict[str, list[Found]] = field(default_factory=dict)
    strays: dict[str, set[str]] = field(default_factory=dict)
    _missing: dict[str, float] = field(
        default_factory=dict
    )  # task id -> when the TES first said that it does not know it
    _requested_at: dict[str, float] = field(default_factory=dict)  # task id -> when it was last asked for by itself
    _making: set[asyncio.Future[str]] = field(default_factory=set)

    @property
    def _tags(self) -> dict[str, str]:
        return {"gdi-run": self.run}

    async def load(self, patience: RetryPolicy) -> None:
        """Reads what earlier processes of this run left at the TES, by job key, newest first, and which tasks of others
        of its place live. Away where no whole list is to be had.
        """
        found = await self._whole(self._tags, _kept, patience)
        self.known = len(found)
        for key, one in found.values():
            if key:
                self.earlier.setdefault(key, []).append(one)
        for each in self.earlier.values():
            each.sort(key=lambda f: f.created, reverse=True)
        if self.place:
            of_place = await self._whole({"gdi-place": self.place}, lambda task: task, patience)
            for identifier, task in of_place.items():
                if state_of(task) in LIVE - ENDING and tags_of(task).get("gdi-run") != self.run:
                    self.strays[identifier] = {_path(o.url or "") for o in task.outputs or []}

    async def _whole(self, tags: dict[str, str], keep: Callable[[Task], T], patience: RetryPolicy) -> dict[str, T]:
        """By task id, what is kept of each task with these tags."""

        async def listed() -> dict[str, T]:
            found: dict[str, T] = {}
            async for page in self.tes.pages(tags, view="BASIC"):
                found.update((id_of(task), keep(task)) for task in page)
            return found

        def away(failure: Failure) -> Away:
            return Away(f"the tasks of earlier processes could not be read: {failure.error}")

        # Half a list would mean jobs submitted twice.
        return await acall_again(listed, patience, again=lambda f: isinstance(f.error, BrokenList), gave_up=away)

    def others(self, outputs: Iterable[str]) -> list[str]:
        """The strays that write any of these URLs; each is told once."""
        wanted = {_path(url) for url in outputs}
        found = [identifier for identifier, written in self.strays.items() if written & wanted]
        for identifier in found:
            del self.strays[identifier]
        return found

    async def create(self, task: Task) -> str:
        """Makes a task, tagged with the run, and registers it, also when its caller is cancelled meanwhile: a request
        under way cannot be taken back.
        """
        if self.closing:
            raise asyncio.CancelledError
        making = asyncio.ensure_future(self._create(changed(task, tags=self._all_tags(task))))
        self._making.add(making)
        making.add_done_callback(self._made)
        return await asyncio.shield(making)

    def _all_tags(self, task: Task) -> dict[str, str]:
        return {**tags_of(task), **self._tags, **({"gdi-place": self.place} if self.place else {})}

    async def _create(self, task: Task) -> str:
        identifier = await self.tes.create(task)
        self.adopt(identifier)
        self.known += 1
        return identifier

    def _made(self, making: asyncio.Future[str]) -> None:
        self._making.discard(making)
        if not making.cancelled():
            making.exception()  # nobody may be waiting for it any more

    def adopt(self, identifier: str) -> None:
        self.live[identifier] = time.monotonic()

    def ended(self, identifier: str) -> None:
        for each in (self.live, self._missing, self._requested_at):
            each.pop(identifier, None)

    async def states(self, identifiers: Iterable[str]) -> dict[str, str | None]:
        """The state of each wanted task; None where the TES knows it no more. A task of which nothing new is known is
        left out.

        One list of the run, ended as soon as all are found; single calls where those are fewer, and for a bounded
        number that no list shows.
        """
        ids = set(identifiers)
        found: dict[str, str | None] = {}
        if len(ids) > max(1, self._pages(self.known)):
            await self._by_list(ids, found)
        left = ids - found.keys()
        if left:
            await self._one_by_one(left, found)
        return found

    def _pages(self, tasks: int) -> int:
        return -(-tasks // self.tes.page_size())

    async def _by_list(self, ids: set[str], found: dict[str, str | None]) -> None:
        seen = 0
        try:
            async with aclosing(self.tes.pages(self._tags)) as pages:
                async for page in pages:
                    seen += len(page)
                    found.update((id_of(t), state_of(t)) for t in page if id_of(t) in ids)
                    if len(ids) - len(found) <= self._pages(max(0, self.known - seen)):
                        return  # the rest is cheaper one by one
        except BrokenList:
            return  # what came is true
        self.known = max(seen, len(ids))

    async def _one_by_one(self, left: set[str], found: dict[str, str | None]) -> None:
        now = time.monotonic()
        # A new task may be missing from a list for a while; only its own call can say that it is gone.
        due = [i for i in left if now - self.live.get(i, -1e9) >= LAG or len(left) <= SINGLES]
        due.sort(key=lambda i: self._requested_at.get(i, -1e9))
        width = asyncio.Semaphore(WIDTH)

        async def ask(identifier: str) -> None:
            async with width:
                self._requested_at[identifier] = time.monotonic()
                try:
                    found[identifier] = state_of(await self.tes.get(identifier, "MINIMAL"))
                    self._missing.pop(identifier, None)
                except ProblemError as error:
                    if error.problem.status != 404:
                        raise
                    if time.monotonic() - self._missing.setdefault(identifier, time.monotonic()) >= FORGOTTEN_AFTER:
                        found[identifier] = None

        for result in await asyncio.gather(*(ask(i) for i in due[:SINGLES]), return_exceptions=True):
            if isinstance(result, BaseException):
                raise result

    async def cancel_all(self) -> int:
        """Cancels everything of this run that lives, also what was being created; how many are still live after at most
        40 s.

        What is not in our own registry is cancelled only where its own tags say that it is this run's: a server may
        ignore the filter.
        """
        self.closing = True
        width = asyncio.Semaphore(WIDTH)
        requested_at: dict[str, float] = {}

        async def cancel(identifier: str) -> None:
            async with width:
                await self.tes.cancel(identifier)

        left = set(self.live)
        try:
            async with asyncio.timeout(CANCEL_BOUND):
                await self._settle_creations()
                left = own = set(self.live)
                while True:
                    now = time.monotonic()
                    due = [i for i in left if now - requested_at.get(i, -1e9) > ASK_AGAIN]
                    requested_at.update(dict.fromkeys(due, now))
                    await asyncio.gather(*(cancel(i) for i in due))
                    left = {
                        id_of(t)
                        async for page in self.tes.pages(self._tags)
                        for t in page
                        if id_of(t) in own and state_of(t) in LIVE
                    }
                    if not left:
                        own = left = {
                            id_of(t)
                            async for page in self.tes.pages(self._tags, view="BASIC")
                            for t in page
                            if state_of(t) in LIVE
                        }
                    if not left:
                        break
                    await asyncio.sleep(0.3)
        except TimeoutError:
            pass
        self.live = dict.fromkeys(left, 0.0)
        return len(left)

    async def end(self, identifiers: Iterable[str]) -> None:
        """Cancels these tasks and waits until none of them lives, ASK_AGAIN seconds after a cancel at most CANCEL_BOUND
        in all. ProblemError where one still lives then.
        """
        left = set(identifiers)
        for identifier in left:
            await self.tes.cancel(identifier)
        until = time.monotonic() + CANCEL_BOUND
        while left:
            for identifier in list(left):
                try:
                    if state_of(await self.tes.get(identifier, "MINIMAL")) not in LIVE:
                        left.discard(identifier)
                except ProblemError as error:
                    if error.problem.status != 404:
                        raise
                    left.discard(identifier)
            if left and time.monotonic() >= until:
                detail = f"the task {min(left)} of an earlier start does not end, and would write the same files"
                raise ProblemError(409, "still-running", detail)
            if left:
                await asyncio.sleep(0.3)

    async def _settle_creations(self) -> None:
        """Waits a moment for what is being created; a creation that waits for a TES that is away is given up."""
        if self._making:
            _, late = await asyncio.wait(set(self._making), timeout=CREATION_BOUND)
            for making in late:
                making.cancel()


def _path(url: str) -> str:
    return url.rstrip("/")


def _kept(task: Task) -> tuple[str, Found]:
    began = [log.start_time for log in task.logs or [] if log.start_time]
    tags, created = tags_of(task), task.creation_time or min(began, default=datetime.fromtimestamp(0, UTC))
    return tags.get("gdi-job", ""), Found(
        id_of(task), state_of(task), tags.get("gdi-try", ""), created, tags.get("gdi-hash", "")
    )
