"""Tasks of a run: create once, list, look, cancel; and the end of a run at this node."""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import sqlalchemy as sa
from tes.models import Task

from gdi.contracts.tes import ENDING, ERRORS, FINAL, View, changed, id_of, state_of, tags_of, to_json
from gdi.kit import tracing
from gdi.kit.problem import ProblemError
from node_gateway.audit import Audit, AuditEvent, append
from node_gateway.auth import Caller, Fences
from node_gateway.broker import BrokerConnection
from node_gateway.db.locks import DatabaseLocks
from node_gateway.keys import PublicKey
from node_gateway.locations import to_s3
from node_gateway.metrics import Metrics
from node_gateway.object_files import ObjectFiles
from node_gateway.policy import Policy, PolicyFile
from node_gateway.release import question
from node_gateway.tasks.answer import Lens, render
from node_gateway.tasks.check import CheckedTask, check
from node_gateway.tasks.off_loop import SMALL, off_loop
from node_gateway.tasks.store import (
    OWN_JOB,
    Known,
    Reservation,
    TaskStore,
    TaskTrail,
    TooManyBytes,
    TooManyTasks,
    new_capability,
)
from node_gateway.tasks.tes_client import TaskSelection, TesAway, UpstreamTes
from node_gateway.workspace.bucket import Bucket

log = logging.getLogger(__name__)
MAX_PAGE = 1000
Json = dict[str, Any]  # a task as TES writes it
Page = tuple[list[Json], str]  # tasks, and the next page's token or nothing


@dataclass
class Tasks:
    node: str
    policy: PolicyFile
    store: TaskStore
    tes: UpstreamTes
    broker: BrokerConnection
    fences: Fences
    audit: Audit
    workspace: Bucket
    key: PublicKey
    metrics: Metrics
    locks: DatabaseLocks  # of a job's try while its task is looked for and made
    objects: ObjectFiles | None = None  # what drs:// inputs are
    slices: bool = False  # whether the archive has an htsget server
    approved: Callable[[str, int], Awaitable[bool]] | None = None  # of a run's attempt, where the node judged it

    async def create(self, task: Task, caller: Caller, size: int) -> str:
        """The id of the job's task: the one it has, live or complete, or a new one. `size`: bytes of the task as it was
        sent. ProblemError as `check` and the TES say; TesAway.
        """
        if self.objects is not None:
            task = await self.objects.task_of_files(task, caller, self.policy.current().max_inputs)
        policy, descriptors = self.policy.current(), self.policy.datasets.all()
        checked = await off_loop(size, lambda: check(task, caller, policy, slices=self.slices))
        secret, digest = new_capability() if any(checked.archive) else ("", None)
        wanted = self._reservation(task, checked, digest, size, policy)

        def admit(connection: sa.Connection) -> None:  # what the run may not be answered is told before anything runs
            question.admit_within(connection, policy, descriptors, caller)

        async with self.locks.alone("job", caller.run, checked.job, checked.try_):
            with _limits(policy):
                number = await self.store.latest_or_begun(caller, checked, wanted, admit)
                if isinstance(number, Known):
                    if kept := await self._keep(number):
                        return kept
                    number = await self.store.begin(caller, checked, wanted)
            inside = self._inside(task, checked, caller, wanted.intent, secret)
            created = await self._create(inside, number, caller, checked.job)
        if (await self.fences.of(caller.run)).closed >= caller.attempt:  # closed while we talked to the TES
            await self.tes.cancel(created)
            raise ProblemError(
                403, "run-closed", f"Run {caller.run} was closed meanwhile.", action="Start a new attempt of the run."
            )
        self.metrics.tasks_created.inc()
        return created

    def _reservation(
        self, task: Task, checked: CheckedTask, capability: str | None, size: int, policy: Policy
    ) -> Reservation:
        made = zip(checked.workspace_outputs, task.outputs or [], strict=True)
        files = [f.path if o.type == "FILE" else f.path.rstrip("/") + "/" for f, o in made]
        limits = policy.max_tasks_per_run, policy.max_run_bytes
        return Reservation(secrets.token_hex(16), capability, self.key.fingerprint, files, size, *limits)

    async def _create(self, inside: Task, number: int, caller: Caller, job: str) -> str:
        """The id of the task, which the TES has now and the trail `number` leads to; the audit has it as well."""

        async def creation() -> str:
            return await self.tes.create(inside, await self.broker.tes_token(caller.run))

        created = await self.store.sent(number, creation())
        who = caller.actor, caller.run, caller.attempt
        event = AuditEvent("task-created", True, *who, created, what=job, workflow=caller.workflow)
        if not await self.store.created(number, created, lambda connection: append(connection, [event])):
            # the lock was lost, and another gateway gave the trail up
            await self.tes.cancel(created)
            raise ProblemError(
                503, "task-given-up", "The task's creation was cut off.", action="Send it again.", retry_after=1
            )
        return created

    def _inside(self, task: Task, checked: CheckedTask, caller: Caller, intent: str, secret: str) -> Task:
        """The task as the node's TES gets it: workspace paths in the node's bucket, archive files with the capability,
        our tags.
        """
        inputs, outputs = [], []
        for given, file, inside in zip(task.inputs or [], checked.archive, checked.workspace_inputs, strict=True):
            url = f"{file.tes_url}#{secret}" if file else to_s3(inside, self.workspace.name) if inside else given.url
            inputs.append(changed(given, url=url))
        for made, where in zip(task.outputs or [], checked.workspace_outputs, strict=True):
            outputs.append(changed(made, url=to_s3(where, self.workspace.name)))
        own = {
            "gdi-run": caller.run,
            "gdi-attempt": str(caller.attempt),
            "gdi-node": self.node,
            "gdi-user": caller.user,
            "gdi-intent": intent,
        }
        if traceparent := tracing.current():
            own[tracing.HEADER] = traceparent
        tags = {**tags_of(task), "gdi-try": checked.try_, **own}
        wish = task.resources and changed(task.resources, backend_parameters=None, backend_parameters_strict=None)
        return changed(task, inputs=inputs, outputs=outputs, tags=tags, resources=wish)

    async def _keep(self, known: Known) -> str:
        """The known task's id, where it still serves; empty where the job needs a new one."""
        if known.phase == "creating" and not (known := await self._find_again(known)).tes_id:
            return ""
        state = known.ended
        if not state:
            task = await self.tes.get(known.tes_id, "MINIMAL")
            if task is None:
                log.warning("the TES does not know task %s any more", known.tes_id)
                return ""
            state = state_of(task)
            if state in FINAL:
                await self.store.ended({known.tes_id: state})
        if state in FINAL | ENDING and state != "COMPLETE":
            return ""
        if state == "COMPLETE" and not await self.workspace.all_there(
            [f"{known.run}/{path}" for path in known.outputs]
        ):
            return ""  # its temporary outputs were removed since: who asks again needs them again
        return known.tes_id

    async def _find_again(self, known: Known) -> Known:
        """A task whose creation was cut off: looked for at the TES by its intent. More than one: the others are
        cancelled.
        """
        found, _ = await self.tes.page(TaskSelection({"gdi-intent": known.intent}), view="BASIC", size=100)
        ids = [id_of(t) for t in found if tags_of(t).get("gdi-intent") == known.intent]
        for surplus in ids[1:]:
            await self.tes.cancel(surplus)
        if not ids:
            await self.store.drop(known.number)
            return known
        await self.store.created(known.number, ids[0])
        return await self.store.by_tes_id(ids[0]) or known

    async def get(self, task: str, view: View, caller: Caller) -> Task:
        """The task as the outside may see it. ProblemError 404 where it is not the run's (whether or not it exists)."""
        known = await self._own(task, caller)
        # A failed task's error class may be in its standard error, which only the FULL view has.
        seen = await self.tes.get(task, "MINIMAL" if view == "MINIMAL" else "FULL")
        if seen is None:
            raise _unknown(task)
        await self._note_ends([(task, state_of(seen))], {task: known})
        denials = await self.store.denials([known.number]) if state_of(seen) in ERRORS else {}
        return await asyncio.to_thread(render, seen, view, await self._lens(caller), denials.get(known.number))

    async def page(self, caller: Caller, selection: TaskSelection, *, view: View, size: int, token: str) -> Page:
        """One upstream page, filtered to the run. An empty page may be followed by others."""
        await self._reconcile(caller.run)
        selection = replace(selection, tags={**selection.tags, "gdi-run": caller.run})
        size = min(size, MAX_PAGE)
        if view == "MINIMAL":
            states, following = await self.tes.states(selection, size=size, token=token)
            trails = await self.store.of_run(caller.run, [task for task, _ in states])
            mine = [(task, state) for task, state in states if task in trails]
            await self._note_ends(mine, trails)
            return [{"id": task, "state": state} for task, state in mine], following
        found, following = await self.tes.page(selection, view=view, size=size, token=token)
        known = await self.store.of_run(caller.run, [id_of(t) for t in found])
        own = [t for t in found if id_of(t) in known]
        await self._note_ends([(id_of(t), state_of(t)) for t in own], known)
        denials = await self.store.denials([known[id_of(t)].number for t in own if state_of(t) in ERRORS])
        lens = await self._lens(caller)

        def rendered() -> list[Json]:
            return [to_json(render(t, view, lens, denials.get(known[id_of(t)].number))) for t in own]

        return await off_loop(SMALL * len(own), rendered), following

    async def cancel(self, task: str, caller: Caller) -> None:
        await self._own(task, caller)
        await self.tes.cancel(task)
        await self.audit.record(
            AuditEvent("task-cancelled", True, caller.actor, caller.run, caller.attempt, task, workflow=caller.workflow)
        )

    async def close(self, caller: Caller, attempt: int) -> int:
        """The attempt is over here: its capabilities end at once, its live tasks are cancelled, by the gateway's own
        records of them. Returns how many; TesAway: close again.
        """
        await self.fences.raise_to(caller.run, closed=attempt)
        await self.store.end_capabilities(caller.run, attempt)
        self.broker.forget(caller.run)
        await self._reconcile(caller.run)
        recorded = await self.store.unfinished(caller.run, phase="created", attempt=attempt)
        states = await self._states(caller.run) if recorded else {}
        ends = {k.tes_id: states[k.tes_id] for k in recorded if states.get(k.tes_id) in FINAL}
        live = [k.tes_id for k in recorded if states.get(k.tes_id) not in FINAL | ENDING]
        gate = asyncio.Semaphore(16)

        async def end(task: str) -> None:
            async with gate:
                await self.tes.cancel(task)

        await asyncio.gather(*(end(task) for task in live))
        await self.store.ended(ends)
        entry = AuditEvent(
            "run-closed",
            True,
            caller.actor,
            caller.run,
            attempt,
            what=f"{len(live)} tasks cancelled",
            workflow=caller.workflow,
        )
        await self.audit.record(entry)
        return len(live)

    async def _states(self, run: str) -> dict[str, str]:
        """The states of the run's tasks by TES id, as far as the TES lists them. What is not in it is cancelled all the
        same: a run's end hangs on the gateway's own records, not on a list that tasks can make too large.
        """
        states: dict[str, str] = {}
        token, seen = "", set[str]()
        try:
            while token not in seen:
                seen.add(token)
                found, token = await self.tes.states(TaskSelection({"gdi-run": run}), size=MAX_PAGE, token=token)
                states.update(found)
                if not token:
                    break
        except TesAway as away:
            log.warning("run %s is closed without a list of its tasks: %s", run, away)
        return states

    async def _reconcile(self, run: str) -> None:
        for known in await self.store.unfinished(run, phase="creating"):
            if known.job.startswith(OWN_JOB):
                continue  # the node's own task is not of the run's making
            async with self.locks.if_free("job", run, known.job, known.try_) as free:  # else it is being made
                if free and (now := await self.store.by_number(known.number)) and now.phase == "creating":
                    await self._find_again(now)

    async def _own(self, task: str, caller: Caller) -> Known:
        known = await self.store.by_tes_id(task)
        if known is None or known.run != caller.run:
            raise _unknown(task, foreign=known is not None)
        return known

    async def _note_ends(self, states: list[tuple[str, str]], known: Mapping[str, Known | TaskTrail]) -> None:
        ends = {task: state for task, state in states if state in FINAL and not known[task].ended}
        if ends:
            await self.store.ended(ends)

    async def _lens(self, caller: Caller) -> Lens:
        policy = self.policy.current()
        named = policy.approves(caller.workflow, caller.digest)
        if caller.own and not named and self.approved is not None:
            named = await self.approved(caller.run, caller.attempt)
        classes = frozenset(policy.error_classes) if named else frozenset()
        logs, lines = policy.logs == "open", policy.error_lines and bool(classes)
        return Lens(caller.run, self.workspace.name, logs, classes, lines)


@contextmanager
def _limits(policy: Policy) -> Iterator[None]:
    """What the run has too much of, as the client is told."""
    try:
        yield
    except TooManyTasks:
        raise ProblemError(
            403,
            "too-many-tasks",
            f"The run has {policy.max_tasks_per_run} tasks, which is what this node allows.",
            action="Make the jobs larger.",
        ) from None
    except TooManyBytes:
        raise ProblemError(
            403,
            "too-many-bytes",
            f"The run's tasks would be larger than the {policy.max_run_bytes} bytes that this node allows.",
            action="Make commands and inline files smaller.",
        ) from None


class ForeignTask(ProblemError):
    """A task that exists but is another run's: answered like one that does not exist, audited as what it is."""


def _unknown(task: str, *, foreign: bool = False) -> ProblemError:
    kind = ForeignTask if foreign else ProblemError
    return kind(404, "unknown-task", f"This run has no task {task[:100]}.", action="List the run's tasks.")
