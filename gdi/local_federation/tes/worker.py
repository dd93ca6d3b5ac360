"""The slots: each takes the longest waiting task, stages its inputs, runs its executors, stores its outputs, and says
how it ended.

A task that is cancelled ends at once; one that runs when the TES ends is run again from the start by the next TES,
under the same id.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from gdi.local_federation.tes import execute, folder
from gdi.local_federation.tes.archive import ArchiveReader
from gdi.local_federation.tes.bucket import Buckets
from gdi.local_federation.tes.config import Image, TesConfig
from gdi.local_federation.tes.database import StandInDatabase
from gdi.local_federation.tes.folder import TaskFolder
from gdi.local_federation.tes.models import Input, TaskExecutor, without_fragment
from gdi.local_federation.tes.slices import SliceReader
from gdi.local_federation.tes.store import Claimed, StandInTasks, now
from gdi.local_federation.tes.transfer import Budget, StoppedError, TransferError, printable
from gdi.runner.sandbox import Maker
from gdi.runner.sandbox.bounds import enforced
from gdi.runner.sandbox.cgroups import Cgroups
from gdi.runner.sandbox.supervisor import Bounds

T = TypeVar("T")
log = logging.getLogger(__name__)
LIVE = ("INITIALIZING", "RUNNING")
MAX_NOTES = 50
PAUSE_AFTER_BUG = 1.0


@dataclass
class Worker:
    """`slots` tasks at once. `wake()` after a new task; `cancel(id)` after the store says CANCELING."""

    config: TesConfig
    database: StandInDatabase
    maker: Maker
    archive: ArchiveReader | None
    buckets: Buckets | None
    groups: Cgroups | None = None  # where the tasks' cgroups are made
    _wake: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(0))
    _running: dict[str, asyncio.Task[None]] = field(default_factory=dict)

    async def run(self) -> None:
        """Until cancelled; then nothing of any task runs any more."""
        async with asyncio.TaskGroup() as group:
            for _ in range(self.config.slots):
                group.create_task(self._slot())

    def wake(self) -> None:
        if self._wake.locked():  # no permit is waiting; more than one would only make slots look twice
            self._wake.release()

    def cancel(self, task_id: str) -> None:
        running = self._running.get(task_id)
        if running is not None:
            running.cancel()

    async def _slot(self) -> None:
        while True:
            try:
                claimed = await self.database.run(StandInTasks.claim)
            except Exception:  # a full disk, say: the slot must outlive it
                log.exception("the next task cannot be taken from the store; trying again")
                await asyncio.sleep(PAUSE_AFTER_BUG)
                continue
            if claimed is None:
                await self._wake.acquire()
                continue
            self.wake()  # there may be more: another free slot looks too
            running = asyncio.create_task(self._task(claimed))
            self._running[claimed.id] = running
            try:
                # A cancel that came between the claim and this line found nobody to tell: the store knows it.
                if await self.database.run(StandInTasks.state, claimed.id, None) == "CANCELING":
                    running.cancel()
                await asyncio.wait([running])
            except asyncio.CancelledError:  # the TES ends: the task stays as it is in the store, to be run again
                running.cancel()
                await asyncio.wait([running])
                raise
            finally:
                del self._running[claimed.id]
            with contextlib.suppress(asyncio.CancelledError):
                if (error := running.exception()) is not None:
                    log.error("task %s: its end could not be recorded", claimed.id, exc_info=error)

    async def _task(self, claimed: Claimed) -> None:
        attempt = Attempt(self, claimed, TaskFolder(self.config.state_dir / "tasks" / claimed.id, claimed.task))
        try:
            state = await attempt.run()
        except asyncio.CancelledError:
            attempt.note("canceled")
            await self.database.run(StandInTasks.move, claimed.id, "CANCELED", of=("CANCELING",), log=attempt.log())
            raise
        except (TransferError, OSError) as error:
            attempt.note(
                str(error)
                if isinstance(error, TransferError)
                else f"this node failed: {type(error).__name__}: {error.strerror}"
            )
            state = "SYSTEM_ERROR"
        except Exception as error:
            log.exception("task %s failed by an unexpected %s", claimed.id, type(error).__name__)
            attempt.note(f"this node failed by an unexpected {type(error).__name__}; its log says more")
            state = "SYSTEM_ERROR"
        finally:
            await asyncio.to_thread(self._remove, attempt.folder)
        if not await self.database.run(StandInTasks.move, claimed.id, state, of=LIVE, log=attempt.log()):
            await self.database.run(StandInTasks.move, claimed.id, "CANCELED", of=("CANCELING",), log=attempt.log())
        log.info("task %s ended: %s", claimed.id, state)

    @staticmethod
    def _remove(task_folder: TaskFolder) -> None:
        try:
            folder.remove(task_folder.home)
        except OSError as error:
            log.warning("%s could not be removed: %s", task_folder.home, error.strerror)


@dataclass
class Attempt:
    """One run of one task, and what its task log says (TES `tesTaskLog`)."""

    worker: Worker
    claimed: Claimed
    folder: TaskFolder
    started: str = field(default_factory=now)
    notes: list[str] = field(default_factory=list)
    executors: list[dict[str, Any]] = field(default_factory=list)
    outputs: list[dict[str, str]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.notes += self.claimed.notes

    def note(self, text: str) -> None:
        """A line of the system log: with its time, without control characters, of bounded length and number."""
        if len(self.notes) < MAX_NOTES:
            self.notes.append(f"{now()} {printable(text, 1000)}")

    def log(self) -> dict[str, Any]:
        log_entry: dict[str, Any] = {
            "logs": self.executors,
            "metadata": {},
            "start_time": self.started,
            "end_time": now(),
            "outputs": self.outputs,
        }
        return {**log_entry, "system_logs": self.notes} if self.notes else log_entry

    async def run(self) -> str:
        """The final state. TransferError where staging, sandbox or upload failed."""
        images = [self._image(e) for e in self.claimed.task.executors]
        await self._threaded(self._stage)
        if not await self.worker.database.run(StandInTasks.move, self.claimed.id, "RUNNING", of=("INITIALIZING",)):
            return "CANCELED"  # it is CANCELING: the caller finds that out
        for executor, image in zip(self.claimed.task.executors, images, strict=True):
            ended = await self._execute(executor, image)
            if ended.problem:
                self.note(ended.problem)
            if ended.exit_code != 0 and not executor.ignore_error:
                return "EXECUTOR_ERROR"
        if self.claimed.task.outputs:
            await self._threaded(self._store)
        return "COMPLETE"

    def _image(self, executor: TaskExecutor) -> Image:
        image = self.worker.config.image(executor.image)
        if image is None:
            raise TransferError(
                f"the image {printable(executor.image)} is not one that this node runs; see `images` in its"
                " configuration"
            )
        return image

    async def _execute(self, executor: TaskExecutor, image: Image) -> execute.Ended:
        started = now()
        limits, resources = self.worker.config.limits, self.claimed.task.resources
        sandbox = self.folder.sandbox(executor, image, limits)
        bounds = Bounds(
            memory=int(resources.ram_gb * 1e9) if resources and resources.ram_gb else limits.memory_bytes,
            disk=self._disk(),
            files=limits.files,
        )
        async with enforced(
            self.worker.maker,
            bounds,
            [self.folder.root],
            cpus=resources.cpu_cores if resources and resources.cpu_cores else None,
            processes=limits.processes,
            groups=self.worker.groups,
        ) as in_force:
            ended = await execute.run(
                executor, sandbox, self.worker.maker, self.folder.root, limits.task_seconds, in_force
            )
        self.executors.append(
            {
                "start_time": started,
                "end_time": now(),
                "stdout": ended.stdout,
                "stderr": ended.stderr,
                "exit_code": ended.exit_code,
            }
        )
        return ended

    def _disk(self) -> int:
        """The bytes that the task may store."""
        most = self.worker.config.limits.disk_bytes
        disk = self.claimed.task.resources.disk_gb if self.claimed.task.resources else None
        return min(most, int(disk * 1e9)) if disk else most

    async def _threaded(self, call: Callable[[Budget], T]) -> T:
        """In a thread; a cancelled caller stops it at its next chunk and waits for that."""
        budget = Budget(self._disk(), self.worker.config.limits.transfer_files)
        thread = asyncio.get_running_loop().run_in_executor(None, call, budget)
        try:
            return await asyncio.shield(thread)
        except asyncio.CancelledError:
            budget.stop.set()
            await asyncio.wait([thread])
            with contextlib.suppress(StoppedError, TransferError, OSError):
                thread.result()
            raise

    def _stage(self, budget: Budget) -> None:
        self.folder.create()
        for item in self.claimed.task.inputs or []:
            target = self.folder.host(item.path)
            target.parent.mkdir(parents=True, exist_ok=True)
            self._fetch(item, target, budget)

    def _fetch(self, item: Input, target: Path, budget: Budget) -> None:
        if item.content is not None:
            budget.take(len(item.content.encode()))
            target.write_text(item.content)
            return
        url = item.url or ""
        scheme = url.partition("://")[0]
        if scheme == "sda" and self.worker.archive is not None:
            if item.type == "DIRECTORY":
                raise TransferError(f"{printable(without_fragment(url))}: an sda input is a FILE")
            self.worker.archive.fetch(url, self.claimed.token, target, budget)
        elif scheme == "htsget" and self.worker.archive is not None:
            SliceReader(self.worker.archive).fetch(url, self.claimed.token, target, budget)
        elif scheme == "s3" and self.worker.buckets is not None:
            self.worker.buckets.download(item, target, budget)
        else:
            raise TransferError(f"{printable(without_fragment(url))}: this node fetches no {scheme}:// URLs")

    def _store(self, budget: Budget) -> None:
        for output in self.claimed.task.outputs or []:
            if not output.url.startswith("s3://") or self.worker.buckets is None:
                raise TransferError(f"{printable(without_fragment(output.url))}: this node stores to s3:// only")
            self.outputs += self.worker.buckets.upload(output, self.folder.root, budget)
