"""Snakemake's executor `tes-auth`: each job a TES task, found again after a restart, asked after in one list per round, cancelled all together."""

import asyncio
import time
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from snakemake_interface_common.exceptions import WorkflowError
from snakemake_interface_executor_plugins.executors.base import SubmittedJobInfo
from snakemake_interface_executor_plugins.executors.remote import RemoteExecutor
from snakemake_interface_executor_plugins.settings import CommonSettings, ExecutorSettingsBase

from gdi_common.problem import ProblemError
from snakemake_tes_auth import adapter
from snakemake_tes_auth.live import LiveTasks
from snakemake_tes_auth.reasons import PLATFORM_TRIES, Failure, failure
from snakemake_tes_auth.retry import Away, Refused
from snakemake_tes_auth.session import session
from snakemake_tes_auth.submit import Entry, Submitter
from snakemake_tes_auth.tasks import CannotRun, direct_task, next_try

FAST, SLOW, GROWTH = 0.5, 5.0, 1.4  # seconds between status rounds: fast while things change
MAX_BAD_ROUNDS = 20

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


@dataclass
class ExecutorSettings(ExecutorSettingsBase):
    """`run_file`: the pod's run.json. (Snakemake reads these types as objects: no postponed annotations in this file.)"""

    run_file: str | None = field(
        default=None, metadata={"help": "run.json, which names the run, its node's gateway and the broker", "type": str, "required": True}
    )


class Executor(RemoteExecutor):
    """See the module. All network calls run on the session's loop; Snakemake's scheduler thread and polling thread only wait for them."""

    def __init__(self, workflow: Any, logger: Any) -> None:
        # The polling thread starts inside super().__init__: everything it touches exists before.
        self._session = session(Path(workflow.executor_settings.run_file))
        self._live = LiveTasks(self._session.tes, self._session.run.run)
        self._submitter = Submitter(self._session, self._live, adapter.workflow_folder(workflow))
        self._bad_rounds = 0
        self._pause = FAST
        self._round: Any = None
        self._cancelled = False
        super().__init__(workflow, logger)

    def __post_init__(self) -> None:
        self.next_seconds_between_status_checks = FAST
        self._announce()

    def _announce(self) -> None:
        """Tells what the workflow consists of, also the part that an earlier process finished, so that progress does not jump back."""
        everything = list(adapter.jobs(self.dag))
        work = [job for job in everything if not adapter.does_nothing(job)]
        counts = {name: 0 for name in adapter.rule_order(self.workflow)}
        for job in work:
            counts[job.rule.name] = counts.get(job.rule.name, 0) + 1
        self._event("The workflow's rules", kind="rules", counts={k: v for k, v in counts.items() if v}, all_jobs=len(everything))
        for job in work:
            if not adapter.has_to_run(self.dag, job):
                view = adapter.view(job)
                self._job_event(view, self._submitter.key(view), "done", message="done before")

    def run_jobs(self, jobs: list[Any]) -> None:
        """Submits a batch together; each job is reported one by one, as Snakemake wants it."""
        for job in jobs:
            self.run_job_pre(job)
        entries = [Entry(job, adapter.view(job)) for job in jobs]
        self._session.ask(self._submitter.submit(entries))
        for entry in entries:
            info = SubmittedJobInfo(entry.job, external_jobid=entry.identifier, aux={"entry": entry, "state": "", "platform_tries": 0, "again_at": 0.0})
            if entry.error:
                # Reported as submitted first: Snakemake counts a job as running from there on.
                self._fail(info, Failure("SYSTEM_ERROR", reason=entry.error, error_class="NotAccepted"))
                continue
            self._job_event(entry.view, entry.key, "submitted", task=entry.identifier, message="found again after a restart" if entry.adopted else None)
            self.report_job_submission(info)
        self._pause = FAST

    def run_job(self, job: Any) -> None:
        self.run_jobs([job])

    async def check_active_jobs(self, active_jobs: list[Any]) -> AsyncGenerator[Any, None]:
        """One round. Every job is either reported or yielded again: one that is dropped hangs the workflow."""
        due = [info for info in active_jobs if info.aux["again_at"] == 0.0]
        states: dict[str, str | None] = {}
        if self._session.given_up is not None:
            raise WorkflowError(str(self._session.given_up))
        try:
            if due:
                self._round = self._session.loop.start(self._session.guard(self._live.states({i.external_jobid for i in due})))
                states = await asyncio.wrap_future(self._round)
            self._bad_rounds = 0
        except (Away, Refused) as error:
            raise WorkflowError(str(error)) from None  # the scheduler ends; the tasks live on for the next process
        except asyncio.CancelledError:
            states = {}  # we are being cancelled: cancel_jobs does the rest
        except ProblemError as error:
            self._bad_rounds += 1
            self.logger.warning(f"status could not be read: {error}")
            if self._bad_rounds >= MAX_BAD_ROUNDS:
                self._session.outcome.write("again", f"the status of tasks could not be read: {error}")
                self._session.given_up = Away(str(error))
                raise WorkflowError(f"the status of tasks could not be read {MAX_BAD_ROUNDS} times in a row: {error}") from None
        if any(state == "COMPLETE" for state in states.values()):
            self._session.metadata.changed()
        changed = False
        for info in active_jobs:
            before = info.aux["state"]
            keep = await self._settle(info, states)
            changed = changed or not keep or info.aux["state"] != before
            if keep:
                yield info
        self._pause = FAST if changed else min(SLOW, self._pause * GROWTH)
        self.next_seconds_between_status_checks = self._pause

    async def _settle(self, info: Any, states: dict[str, str | None]) -> bool:
        """Acts on one job's state; True while it goes on."""
        if info.aux["again_at"]:
            if time.monotonic() >= info.aux["again_at"] and not self._cancelled:
                await self._again(info)
            return True
        identifier, entry = info.external_jobid, info.aux["entry"]
        if identifier not in states:
            return True
        state = states[identifier]
        if state == "COMPLETE":
            self._live.ended(identifier)
            self.report_job_success(info)
            return False
        if state is None:
            self._live.ended(identifier)
            return self._later(info, Failure("SYSTEM_ERROR", reason="the node knows this task no more"))
        if state in ("EXECUTOR_ERROR", "SYSTEM_ERROR", "PREEMPTED", "CANCELED"):
            self._live.ended(identifier)
            return self._later(info, await self._why(identifier, state))
        if state != info.aux["state"]:
            info.aux["state"] = state
            shown = "running" if state == "RUNNING" else "queued"
            self._job_event(entry.view, entry.key, shown, task=identifier)
        return True

    async def _why(self, identifier: str, state: str) -> Failure:
        try:
            task = await asyncio.wrap_future(self._session.loop.start(self._session.guard(self._session.tes.get(identifier))))
        except (ProblemError, Away, Refused, asyncio.CancelledError):
            return Failure(state)
        return failure({**task, "state": state})

    def _later(self, info: Any, why: Failure) -> bool:
        """Another try where the platform was at fault, otherwise the end; True while the job goes on."""
        if self._cancelled:
            return False
        if why.worth_another_try and info.aux["platform_tries"] < PLATFORM_TRIES:
            info.aux["platform_tries"] += 1
            info.aux["again_at"] = time.monotonic() + 2.0 ** info.aux["platform_tries"] - 1
            entry = info.aux["entry"]
            self._job_event(entry.view, entry.key, "queued", task=info.external_jobid, message=f"tried again: {why.sentence(entry.view.rule)}")
            return True
        self._fail(info, why)
        return False

    async def _again(self, info: Any) -> None:
        entry = info.aux["entry"]
        info.aux["again_at"] = 0.0
        info.aux["state"] = ""
        entry.taken.add(entry.tries)
        entry.tries = next_try(entry.view.attempt, entry.taken)
        try:
            task = direct_task(entry.view, key=entry.key, tries=entry.tries, folder=self._submitter.folder)
            info.external_jobid = await asyncio.wrap_future(self._session.loop.start(self._session.guard(self._live.create(task))))
        except (ProblemError, CannotRun) as error:
            self.logger.warning(f"job {entry.view.jobid} could not be submitted again: {error}")
            info.aux["again_at"] = time.monotonic() + 5
            info.aux["platform_tries"] += 1
            if info.aux["platform_tries"] > PLATFORM_TRIES + 2:
                self._session.outcome.write("again", str(error))
                raise WorkflowError(str(error)) from None
        except (Away, Refused) as error:
            raise WorkflowError(str(error)) from None
        else:
            self._job_event(entry.view, entry.key, "submitted", task=info.external_jobid)

    def _fail(self, info: Any, why: Failure) -> None:
        view, key = info.aux["entry"].view, info.aux["entry"].key
        message = why.sentence(view.rule)
        again = adapter.retries_left(info.job)
        self._job_event(
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
        self.report_job_error(info, msg=message + " ")

    def cancel_jobs(self, active_jobs: list[Any]) -> None:
        """Cancels all that lives, from our own registry and the TES's list; `active_jobs` may be empty in the middle of a check.

        Where the gateway is away or this pod was replaced nothing is cancelled: the next process adopts it.
        """
        self._cancelled = True
        if self._round is not None:
            self._round.cancel()
        why = self._session.given_up
        if isinstance(why, Away) or (isinstance(why, Refused) and why.dataset is None):
            return
        try:
            left = self._session.loop.run(self._live.cancel_all(), timeout=45)
        except (Away, Refused, ProblemError, TimeoutError) as error:
            self.logger.error(f"not all tasks could be cancelled: {type(error).__name__}: {error}")
            return
        if left:
            self.logger.error(f"{left} tasks were asked to end and still live; the node's gateway ends them when the run is closed")

    def _job_event(self, view: adapter.JobView, key: str, state: str, **details: Any) -> None:
        known = {k: v for k, v in details.items() if v is not None}
        said = f"Job {view.jobid} ({view.rule}) is {state}" + (f": {known['message']}" if "message" in known else "")
        self._event(said, kind="job", jobid=view.jobid, rule=view.rule, job=key, wildcards=view.wildcards, state=state, tries=view.attempt, **known)

    def _event(self, said: str, **event: Any) -> None:
        self.logger.info(said, extra={"gdi_event": {"time": time.time(), **event}})
