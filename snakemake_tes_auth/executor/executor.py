"""Snakemake's executor `tes-auth`: each job a TES task, found again after a restart, asked after in one list per round,
cancelled all together.
"""

import asyncio
import signal
import threading
import time
from collections.abc import AsyncGenerator, Coroutine
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from snakemake_interface_common.exceptions import WorkflowError
from snakemake_interface_executor_plugins.executors.base import SubmittedJobInfo
from snakemake_interface_executor_plugins.executors.remote import RemoteExecutor
from snakemake_interface_executor_plugins.settings import CommonSettings
from tes.models import Task

from gdi.contracts.tes import FAILED, changed
from gdi.contracts.urls import StorageUrl
from gdi.kit.problem import ProblemError
from snakemake_tes_auth.executor.reporter import Reporter
from snakemake_tes_auth.executor.submit import Submission, Submitter
from snakemake_tes_auth.executor.task_registry import TaskRegistry
from snakemake_tes_auth.files.queries import parse
from snakemake_tes_auth.files.s3_buckets import NewBuckets
from snakemake_tes_auth.retry import Away, Refusal
from snakemake_tes_auth.settings import ExecutorSettings, open_session
from snakemake_tes_auth.tasks.reasons import PLATFORM_TRIES, TaskFailure, ends_of_logs, failure, mount_hint
from snakemake_tes_auth.tasks.tasks import Builder, CannotRun
from snakemake_tes_auth.workflow import adapter, opened
from snakemake_tes_auth.workflow.source_files import SourceFiles

T = TypeVar("T")
FAST, SLOW, GROWTH = 0.5, 5.0, 1.4  # seconds between status rounds: fast while things change
BUSY = 2.0  # seconds at least, while many jobs are being handed in
SHARE = 2.0  # a pause is at least so many times the round before it
BATCH = 500  # jobs submitted together: then they are reported, and their tasks watched
MAX_BAD_ROUNDS = 20
TASK_IMAGE = "gdi-task:1"

common_settings = CommonSettings(
    non_local_exec=True,
    implies_no_shared_fs=True,
    job_deploy_sources=False,
    pass_default_storage_provider_args=False,
    pass_default_resources_args=False,
    pass_envvar_declarations_to_cmd=False,  # it would print their values into the command
    auto_deploy_default_storage_provider=False,  # it would pip-install in every job
    init_seconds_before_status_checks=0,
    can_transfer_local_files=True,
)


__all__ = ["Executor", "ExecutorSettings", "common_settings"]


class Executor(RemoteExecutor):
    """See the module. All network calls run on the session's loop; Snakemake's scheduler thread and polling thread only
    wait for them.
    """

    def __init__(self, workflow: Any, logger: Any) -> None:
        # The polling thread starts inside super().__init__: everything it touches exists before.
        opened.stop()
        settings = workflow.executor_settings
        self._session = open_session(settings, workflow)
        self._live = TaskRegistry(self._session.tes, self._session.name, self._session.place)
        image = settings.image or (TASK_IMAGE if settings.run_file else adapter.container_image(workflow))
        folder, cache = adapter.workflow_folder(workflow), adapter.source_cache(workflow)
        files = SourceFiles(
            folder,
            Path.cwd(),
            cache,
            limit=self._session.sources.limit,
            patterns=tuple(settings.files or ()),
            never=settings.secret_files | adapter.credential_files(workflow),
            follow_out=settings.run_file is None,
        )
        self._tasks = Builder(folder, image=image, mode=settings.mode, cache=cache, sources=files)
        self._submitter = Submitter(self._session, self._live, self._tasks)
        self._tell = Reporter(logger, self._session, watched=adapter.has_logger(workflow, "airflow"))
        self._buckets = NewBuckets()
        self._bad_rounds = 0
        self._pause = FAST
        self._round: Any = None
        self._cancelled = False
        self._began = False
        self._submitting = False
        self._files_told = False
        super().__init__(workflow, logger)

    def __post_init__(self) -> None:
        self.next_seconds_between_status_checks = FAST
        if self._session.metadata is not None and (rules := adapter.local_rules(self.dag)):
            raise WorkflowError(
                f"{'rules' if len(rules) > 1 else 'rule'} {', '.join(rules)} would read or write files where Snakemake"
                " runs, but contents stay at the node: take them out of `localrules`, write `workflow.source_path(…)`"
                " instead of `local(…)`, and give a rule with only touch() outputs a command"
            )
        if adapter.keeps_scripts(self.workflow):
            raise WorkflowError(
                "--skip-script-cleanup keeps the scripts of jobs where they run, which is in tasks: nothing of them"
                " would be here to look at; leave it out"
            )
        if names := adapter.withheld_variables(self.workflow):
            raise WorkflowError(
                f"the workflow declares `envvars:` {', '.join(names)}, which its tasks would not have: give --envvars"
                f" {' '.join(names)} to send their values with each task (whoever may read a task reads them), or take"
                " them out of the workflow"
            )
        if self._session.metadata is None and (here := adapter.run_here(self.workflow)):
            self.logger.info(
                f"{', '.join(here)}: no output, log or container is declared, so it runs here, as a local rule"
            )
        for job in adapter.needed_jobs(self.dag):
            if problem := self._tasks.early_problem(job):
                raise WorkflowError(problem)
        self._tell.plan(self.dag, adapter.rule_order(self.workflow), self._submitter)

    def run_jobs(self, jobs: list[Any]) -> None:
        """Submits batch by batch, and reads the next while the TES takes the last; each job is reported one by one, as
        Snakemake wants it.
        """
        self._on_first_jobs()
        self._submitting = len(jobs) > BATCH
        under_way: tuple[list[Submission], Future[None]] | None = None
        try:
            for start in range(0, len(jobs), BATCH):
                batch = jobs[start : start + BATCH]
                for job in batch:
                    self.run_job_pre(job)
                    self._buckets.need(adapter.written(job))
                entries = [Submission(job, self._tasks.look(job)) for job in batch]
                before, under_way = (
                    under_way,
                    (entries, self._session.loop.start(self._session.guard(self._submitter.submit(entries)))),
                )
                self._report_all(before)
            self._report_all(under_way)
        except BaseException:
            if under_way is not None:
                under_way[1].cancel()
            raise
        finally:
            self._submitting = False
        self._pause = FAST

    def _report_all(self, batch: tuple[list[Submission], Future[None]] | None) -> None:
        if batch is None:
            return
        entries, submission = batch
        try:
            submission.result()
        except (Away, Refusal, ProblemError) as error:
            raise WorkflowError(str(error)) from None
        if not self._files_told and (text := self._tasks.sources.report()):
            self._files_told = True
            self.logger.info(text)
        for entry in entries:
            self._report(entry)

    def _report(self, entry: Submission) -> None:
        info = SubmittedJobInfo(entry.job, external_jobid=entry.identifier, aux={"entry": entry})
        if entry.error:
            # Reported as submitted first: Snakemake counts a job as running from there on.
            self._fail(info, TaskFailure("SYSTEM_ERROR", reason=entry.error, error_class="NotAccepted"))
            return
        self._tell.submitted(entry)
        self.report_job_submission(info)

    def _on_first_jobs(self) -> None:
        """What has to wait until Snakemake's scheduler is made: its signal handler and its questions."""
        if self._began:
            return
        self._began = True
        adapter.ask_no_sizes(self.workflow.scheduler, self._known_size)
        if threading.current_thread() is threading.main_thread():
            # Snakemake would wait for all running jobs; what is live is to be cancelled, as at Ctrl-C. Raised here:
            # SIGINT itself is ignored in the background.
            signal.signal(signal.SIGTERM, _stop)

    def _known_size(self, stored: Any) -> int | None:
        query = getattr(stored, "parsed", None)
        info = (
            self._session.metadata.known(query)
            if self._session.metadata is not None and isinstance(query, StorageUrl)
            else None
        )
        return info.size if info else None

    def run_job(self, job: Any) -> None:
        self.run_jobs([job])

    async def check_active_jobs(self, active_jobs: list[Any]) -> AsyncGenerator[Any, None]:
        """One round. Every job is either reported or yielded again: one that is dropped hangs the workflow."""
        if self._session.given_up is not None:
            raise WorkflowError(str(self._session.given_up))
        due = {info.external_jobid for info in active_jobs if not info.aux["entry"].again_at}
        began = time.monotonic()
        states = await self._states(due) if due else {}
        self._believe([info for info in active_jobs if states.get(info.external_jobid) == "COMPLETE"])
        changed = False
        for info in active_jobs:
            before = info.aux["entry"].state
            keep = await self._settle(info, states)
            changed = changed or not keep or info.aux["entry"].state != before
            if keep:
                yield info
        # Fast while things change, slow when they do not; a round that costs much is not asked for all the time.
        self._pause = max(
            FAST if changed else min(SLOW, self._pause * GROWTH), min(SLOW, (time.monotonic() - began) * SHARE)
        )
        # While batch after batch is handed in the TES has better to do than to list those before.
        self.next_seconds_between_status_checks = max(self._pause, BUSY if self._submitting else 0)

    async def _states(self, due: set[str]) -> dict[str, str | None]:
        try:
            states = await self._ask(self._live.states(due))
        except (Away, Refusal) as error:
            raise WorkflowError(str(error)) from None  # the scheduler ends; the tasks live on for the next process
        except asyncio.CancelledError:
            return {}  # we are being cancelled: cancel_jobs does the rest
        except ProblemError as error:
            self._bad_rounds += 1
            self.logger.warning(f"status could not be read: {error}")
            if self._bad_rounds >= MAX_BAD_ROUNDS:
                self._session.outcome.write("again", f"the status of tasks could not be read: {error}")
                self._session.given_up = Away(str(error))
                raise WorkflowError(
                    f"the status of tasks could not be read {MAX_BAD_ROUNDS} times in a row: {error}"
                ) from None
            return {}
        self._bad_rounds = 0
        return states

    async def _ask(self, work: Coroutine[Any, Any, T]) -> T:
        """The result of a call on the session's loop; `cancel_jobs` ends it."""
        self._round = self._session.loop.start(self._session.guard(work))
        if self._cancelled:
            self._round.cancel()
        return await asyncio.wrap_future(self._round)

    def _believe(self, ended: list[Any]) -> None:
        """The outputs of COMPLETE tasks are there: Snakemake's questions after them need no request."""
        metadata = self._session.metadata
        if metadata is None or not ended:
            return
        when = self._session.tes.server_time
        for info in ended:
            view = info.aux["entry"].view
            files = [*view.outputs, *view.logs, *([view.benchmark] if view.benchmark else [])]
            metadata.produced(
                [(parse(f.query).path, f.directory) for f in files if f.query.startswith("workspace://")],
                info.external_jobid,
                when,
            )

    async def _settle(self, info: Any, states: dict[str, str | None]) -> bool:
        """Acts on one job's state; True while it goes on."""
        identifier, entry = info.external_jobid, info.aux["entry"]
        if entry.again_at:
            if time.monotonic() >= entry.again_at and not self._cancelled:
                await self._again(info)
            return True
        if identifier not in states:
            return True
        state = states[identifier]
        if state == "COMPLETE":
            self._live.ended(identifier)
            adapter.forget_absence(info.job)
            self.report_job_success(info)
            self._tell.ended(entry)
            return False
        if state is None:
            self._live.ended(identifier)
            return self._later(info, TaskFailure("SYSTEM_ERROR", reason="the node knows this task no more"))
        if state in FAILED:
            self._live.ended(identifier)
            return self._later(info, await self._why(info, state))
        if state != entry.state:
            entry.state = state
            shown = "running" if state == "RUNNING" else "queued"
            if self._tell.watched:
                self._tell.job(entry.view, entry.key, shown, task=identifier)
        return True

    async def _why(self, info: Any, state: str) -> TaskFailure:
        view = info.aux["entry"].view
        try:
            task = await self._ask(self._session.tes.get(info.external_jobid))
            why = failure(changed(task, state=state))
            why = replace(why, hint=mount_hint(why, [f.local for f in view.inputs]))
            if state == "EXECUTOR_ERROR":
                await self._keep_logs(info, task)
            self._tell.used(info.aux["entry"], task)
            if state == "SYSTEM_ERROR" and self._session.metadata is not None:
                inputs = [parse(f.query) for f in view.inputs if f.query.startswith("workspace://")]
                if lost := await self._ask(self._session.metadata.absent(inputs)):
                    return replace(
                        why,
                        error_class="MissingInput",
                        reason=f"{_few(lost)} is not in the workspace, although the task that makes it is COMPLETE",
                    )
        except (ProblemError, Away, Refusal, asyncio.CancelledError):
            return TaskFailure(state)
        return why

    async def _keep_logs(self, info: Any, task: Task) -> None:
        """Stores what is known of a failed job's log files; a node's own storage takes nothing from here."""
        if self._session.metadata is not None:
            return
        names = {f.local: f.query for f in info.aux["entry"].view.logs}
        for name, text in ends_of_logs(task, names).items():
            try:
                await asyncio.to_thread(adapter.store_log, info.job, name, text)
            except Exception as error:  # any storage plugin's own exception
                self.logger.warning(f"the log {name} could not be stored: {type(error).__name__}: {str(error)[:200]}")

    def _later(self, info: Any, why: TaskFailure) -> bool:
        """Another try where the platform was at fault, otherwise the end; True while the job goes on."""
        if self._cancelled:
            return False
        entry = info.aux["entry"]
        if why.worth_another_try and entry.platform_tries < PLATFORM_TRIES:
            entry.platform_tries += 1
            entry.again_at = time.monotonic() + 2.0**entry.platform_tries - 1
            self._tell.job(
                entry.view,
                entry.key,
                "queued",
                task=info.external_jobid,
                message=f"tried again: {why.sentence(entry.view.rule)}",
            )
            return True
        self._fail(info, why)
        return False

    async def _again(self, info: Any) -> None:
        entry = info.aux["entry"]
        try:
            await self._ask(self._submitter.again(entry))
        except (ProblemError, CannotRun) as error:
            self.logger.warning(f"job {entry.view.jobid} could not be submitted again: {error}")
            entry.again_at = time.monotonic() + 5
            entry.platform_tries += 1
            if entry.platform_tries > PLATFORM_TRIES + 2:
                self._session.outcome.write("again", str(error))
                raise WorkflowError(str(error)) from None
        except (Away, Refusal) as error:
            raise WorkflowError(str(error)) from None
        except asyncio.CancelledError:
            return
        else:
            info.external_jobid = entry.identifier
            self._tell.submitted(entry)

    def shutdown(self) -> None:
        """At the workflow's end one listing finds out whether what COMPLETE tasks were to make is there."""
        super().shutdown()
        if self._session.given_up is None and not self._cancelled:
            self._tell.finish()
        metadata = self._session.metadata
        if metadata is None or self._cancelled or self._session.given_up is not None:
            return
        if lost := self._session.ask(metadata.verify()):
            message = (
                f"{_few(lost)} is not in the workspace, although its task ended as COMPLETE: the node's operator should"
                " look into the TES's log"
            )
            self._session.outcome.write("failed", message)
            raise WorkflowError(message)

    def _fail(self, info: Any, why: TaskFailure) -> None:
        view, key = info.aux["entry"].view, info.aux["entry"].key
        message = why.sentence(view.rule)
        again = adapter.retries_left(info.job)
        self._tell.job(
            view,
            key,
            "queued" if again else "failed",
            task=info.external_jobid,
            exit_code=why.exit_code,
            error_class=why.error_class,
            line=why.line,
            dataset=why.dataset,
            message=message,
        )
        if not again:
            self._session.outcome.write("failed", message, why.dataset)
        more = f"; more at {self._session.tes.link(info.external_jobid)}" if info.external_jobid else ""
        self.report_job_error(info, msg=f"{message}{more} ")

    def cancel_jobs(self, active_jobs: list[Any]) -> None:
        """Cancels all that lives, from our own registry and the TES's list; `active_jobs` may be empty in the middle of
        a check.

        Where the gateway is away or this pod was replaced nothing is cancelled: the next process adopts it.
        """
        self._cancelled = True
        if self._round is not None:
            self._round.cancel()
        why = self._session.given_up
        if isinstance(why, Away) or (isinstance(why, Refusal) and why.dataset is None):
            return
        try:
            left = self._session.loop.run(self._live.cancel_all(), timeout=45)
        except (Away, Refusal, ProblemError, TimeoutError) as error:
            self.logger.error(f"not all tasks could be cancelled: {type(error).__name__}: {error}")
            return
        if left:
            self.logger.error(
                f"{left} tasks were asked to end and still live; the node's gateway ends them when the run is closed"
            )


def _stop(*_: object) -> None:
    raise KeyboardInterrupt


def _few(names: list[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
