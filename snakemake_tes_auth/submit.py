"""Jobs handed in as a batch: what an earlier process left is adopted, the rest is created, several at a time."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gdi_common.problem import ProblemError
from snakemake_tes_auth.adapter import JobView
from snakemake_tes_auth.live import Found, LiveTasks
from snakemake_tes_auth.queries import parse
from snakemake_tes_auth.session import Session
from snakemake_tes_auth.tasks import CannotRun, direct_task, job_key, next_try
from snakemake_tes_auth.tes import LIVE

WIDTH = 12  # creations under way at once
log = logging.getLogger("snakemake.logger")


@dataclass
class Entry:
    """A job on its way to a task. `job` is Snakemake's own object. `error` is set where no task could be had."""

    job: Any
    view: JobView
    key: str = ""
    tries: str = ""
    identifier: str = ""
    adopted: bool = False
    error: str = ""
    taken: set[str] = field(default_factory=set)


class Submitter:
    """`folder` holds the workflow's files. What earlier processes left is read once, before the first submission."""

    def __init__(self, session: Session, live: LiveTasks, folder: Path) -> None:
        self.folder = folder
        self._session = session
        self._live = live
        self._loaded = False

    def key(self, view: JobView) -> str:
        return job_key(view, self._session.run.digest)

    async def submit(self, entries: list[Entry]) -> None:
        """Fills in `identifier` or `error` of each entry. Away and Refused end the whole batch; what was created by then is found again by its tags."""
        if not self._loaded:
            await self._live.load()
            self._loaded = True
        width = asyncio.Semaphore(WIDTH)

        async def one(entry: Entry) -> None:
            async with width:
                await self._one(entry)

        results = await asyncio.gather(*(one(entry) for entry in entries), return_exceptions=True)
        for result in results:
            if isinstance(result, BaseException):
                raise result

    async def _one(self, entry: Entry) -> None:
        entry.key = self.key(entry.view)
        # An entry of an earlier process serves once: when Snakemake runs the job again, it means it.
        earlier = self._live.earlier.pop(entry.key, [])
        found = next((f for f in earlier if f.state in LIVE and f.state != "CANCELING"), None)
        if found is None:
            complete = next((f for f in earlier if f.state == "COMPLETE"), None)
            if complete is not None and await self._believable(entry.view):
                found = complete
        entry.taken = {f.tries for f in earlier if f.state in LIVE or f.state == "COMPLETE"}
        if found is not None:
            self._adopt(entry, found)
            return
        entry.tries = next_try(entry.view.attempt, entry.taken)
        try:
            task = direct_task(entry.view, key=entry.key, tries=entry.tries, folder=self.folder)
            entry.identifier = await self._live.create(task)
        except CannotRun as error:
            entry.error = str(error)
        except ProblemError as error:
            entry.error = f"the node's gateway did not accept it: {error}"

    def _adopt(self, entry: Entry, found: Found) -> None:
        entry.identifier, entry.tries, entry.adopted = found.identifier, found.tries, True
        self._live.live.add(found.identifier)

    async def _believable(self, view: JobView) -> bool:
        """Whether a finished task's work still stands: all outputs are there and none is older than an input made since."""
        outputs = [await self._session.metadata.info(parse(f.query)) for f in view.outputs if f.query]
        if not outputs or any(info is None for info in outputs):
            return False
        inputs = [await self._session.metadata.info(parse(f.query)) for f in view.inputs if f.query.startswith("workspace://")]
        oldest = min(info.mtime for info in outputs if info is not None)
        return all(info is not None and info.mtime <= oldest for info in inputs)
