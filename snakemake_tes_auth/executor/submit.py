"""Jobs handed in as a batch: what an earlier process left is adopted, the rest is created, several at a time."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any

from tes.models import Input, Task

from gdi.contracts.tes import ENDING, LIVE
from gdi.kit.problem import ProblemError
from gdi.kit.retry import RetryPolicy
from snakemake_tes_auth.executor.task_registry import Found, TaskRegistry
from snakemake_tes_auth.files.queries import parse
from snakemake_tes_auth.session import Session
from snakemake_tes_auth.tasks.tasks import Builder, CannotRun, Plan, job_key, next_try
from snakemake_tes_auth.workflow import adapter
from snakemake_tes_auth.workflow.jobview import JobView

WIDTH = 16  # creations under way at once
SKEW = 5.0  # seconds by which the clocks of TES and storage may differ


@dataclass
class Submission:
    """A job on its way to a task and as a task. `job` is Snakemake's own object. `error` is set where no task could be
    had.
    """

    job: Any
    view: JobView
    key: str = ""
    tries: str = ""
    identifier: str = ""
    adopted: bool = False
    error: str = ""
    taken: set[str] = field(default_factory=set)
    state: str = ""  # as last seen
    platform_tries: int = 0  # how often the platform was at fault
    again_at: float = 0.0  # when it is submitted anew (monotonic); 0 where it is not


class Submitter:
    """What earlier processes left is read once, before the first submission."""

    def __init__(
        self, session: Session, live: TaskRegistry, tasks: Builder, patience: RetryPolicy | None = None
    ) -> None:
        self._tasks = tasks
        self._session = session
        self._live = live
        self._patience = patience or RetryPolicy()
        self._loaded = False
        self._loading = asyncio.Lock()

    def key(self, view: JobView) -> str:
        return job_key(view, self._session.digest)

    async def submit(self, entries: list[Submission]) -> None:
        """Fills in `identifier` or `error` of each entry. Away and Refusal end the whole batch; what was created by
        then is found again by its tags.
        """
        async with self._loading:
            if not self._loaded:
                await self._live.load(self._patience)
                self._loaded = True
        waiting = iter(entries)

        async def worker() -> None:
            for entry in waiting:
                await self._one(entry)

        results = await asyncio.gather(*(worker() for _ in range(min(WIDTH, len(entries)))), return_exceptions=True)
        for result in results:
            if isinstance(result, BaseException):
                raise result

    async def again(self, entry: Submission) -> None:
        """Another task for a job whose last one failed by the platform's fault. ProblemError, CannotRun, Away,
        Refusal.
        """
        entry.taken.add(entry.tries)
        entry.tries = next_try(entry.view.attempt, entry.taken)
        entry.identifier = await self._live.create(await self._task(entry))
        entry.state, entry.again_at = "", 0.0

    async def _one(self, entry: Submission) -> None:
        entry.key = self.key(entry.view)
        # An entry of an earlier process serves once: when Snakemake runs the job again, it means it.
        earlier = self._live.earlier.pop(entry.key, []) if self._live.earlier else []
        try:
            planned = await self._planned(entry) if earlier else None
        except CannotRun as error:
            entry.error = str(error)
            return
        mine = planned[0].hash(planned[1]) if planned else ""
        found = next((f for f in earlier if f.state in LIVE - ENDING and f.hash == mine), None)
        if found is not None and await self._newest_input(entry) > found.created.timestamp() + SKEW:
            found = None  # it reads what was there when it began
        if found is None:
            complete = next((f for f in earlier if f.state == "COMPLETE" and f.hash == mine), None)
            if complete is not None and await self._believable(entry):
                found = complete
        entry.taken = {f.tries for f in earlier if f.state in LIVE or f.state == "COMPLETE"}
        if found is not None:
            self._adopt(entry, found)
            return
        entry.tries = next_try(entry.view.attempt, entry.taken)
        try:
            # What an earlier process started otherwise would write the same outputs, perhaps after the new task did.
            rivals = self._live.others(f.query for f in entry.view.outputs if f.query)
            await self._live.end([*(f.identifier for f in earlier if f.state in LIVE), *rivals])
            entry.identifier = await self._live.create(await self._task(entry, planned))
        except CannotRun as error:
            entry.error = str(error)
        except ProblemError as error:
            entry.error = f"{self._session.server} did not accept it: {error}"

    async def _task(self, entry: Submission, planned: tuple[Plan, list[Input]] | None = None) -> Task:
        plan, sources = planned or await self._planned(entry)
        return plan.task(key=entry.key, tries=entry.tries, sources=sources)

    async def _planned(self, entry: Submission) -> tuple[Plan, list[Input]]:
        plan = self._tasks.plan(entry.view)
        return plan, await self._session.sources.inputs(plan.files, plan.at)

    def _adopt(self, entry: Submission, found: Found) -> None:
        entry.identifier, entry.tries, entry.adopted = found.identifier, found.tries, True
        self._live.adopt(found.identifier)

    async def _newest_input(self, entry: Submission) -> float:
        """When the newest of the job's inputs was stored, in epoch seconds by the storage's clock. Behind a gateway the
        run's own tasks store them alone.
        """
        if self._session.metadata is not None:
            return 0.0
        return await asyncio.to_thread(adapter.newest_input, entry.job)

    async def _believable(self, entry: Submission) -> bool:
        """Whether a finished task's work still stands: Snakemake has no other reason than missing or incomplete
        outputs, all outputs are there, and none is older than an input made since."""
        if not adapter.only_unfinished(entry.job):
            return False
        metadata, view = self._session.metadata, entry.view
        if metadata is None:
            return await asyncio.to_thread(adapter.outputs_stand, entry.job, {f.query for f in view.outputs if f.query})
        outputs = [await metadata.info(parse(f.query)) for f in view.outputs if f.query]
        if not outputs or any(info is None for info in outputs):
            return False
        inputs = [await metadata.info(parse(f.query)) for f in view.inputs if f.query.startswith("workspace://")]
        oldest = min(info.mtime for info in outputs if info is not None)
        return all(info is not None and info.mtime <= oldest for info in inputs)
