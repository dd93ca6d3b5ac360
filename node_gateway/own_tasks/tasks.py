"""A task of the node's own: the gateway writes it, sends it to its TES and alone reads what it makes. It has the trail,
the capability and the audit of any task, and no tag by which a run would list it.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tes.models import Executor, Input, Output, Resources, Task

from gdi.contracts.tes import state_of
from gdi.contracts.urls import SdaUrl
from gdi.kit.problem import ProblemError
from node_gateway.audit import Audit, AuditEvent
from node_gateway.auth import Caller
from node_gateway.broker import BrokerConnection
from node_gateway.keys import PublicKey
from node_gateway.policy import PolicyFile
from node_gateway.tasks.check import CheckedTask
from node_gateway.tasks.store import Reservation, TaskStore, new_capability
from node_gateway.tasks.tes_client import UpstreamTes
from node_gateway.workspace.bucket import Bucket

SCRIPT = Path(__file__).with_name("script.py")
HOME = "/gdi/work"
SUFFIXES = (".vcf.gz", ".vcf.bgz", ".vcf")
VCF = (".vcf.gz.c4gh", ".vcf.bgz.c4gh", ".vcf.c4gh")


@dataclass(frozen=True)
class OwnTask:
    """`job`: its key among the run's. `mode` of the script; `files` of each dataset; `question`: a file that it is
    given; `result`: where in the workspace bucket its output goes.
    """

    job: str
    mode: str
    files: list[list[SdaUrl]]
    question: str
    result: str


@dataclass
class OwnTasks:
    policy: PolicyFile
    store: TaskStore
    tes: UpstreamTes
    broker: BrokerConnection
    audit: Audit
    workspace: Bucket
    key: PublicKey

    async def send(self, caller: Caller, own: OwnTask, *, as_service: bool = False) -> str:
        """The task's id at the TES, which takes it as the run's user, or `as_service` from the gateway's own account.
        ProblemError, TesAway.
        """
        policy = self.policy.current()
        if policy.own_image is None:
            raise ProblemError(409, "not-open", "The policy names no own_image.", action="Name one, by its digest.")
        secret, digest = new_capability()
        flat = [file for files in own.files for file in files]
        task, what = self._task(own, policy.own_image, secret), f"{own.mode} over {len(flat)} files"
        return await self.send_task(caller, own.job, task, what, files=flat, capability=digest, as_service=as_service)

    async def send_task(
        self,
        caller: Caller,
        job: str,
        task: Task,
        what: str,
        *,
        files: Sequence[SdaUrl] = (),
        capability: str | None = None,
        as_service: bool = False,
    ) -> str:
        """The same of a task that is written already. `files`: what it may read of the archive by its `capability`."""
        inside = [None] * len(files)
        checked = CheckedTask(job, "1", tuple(files), tuple(inside), ())
        intent, size = secrets.token_hex(16), sum(len(one.content or "") for one in task.inputs or ())
        wanted = Reservation(intent, capability, self.key.fingerprint, [], size, limit=2**31, max_bytes=2**62)
        number = await self.store.begin(caller, checked, wanted)

        async def creation() -> str:
            token = None if as_service else await self.broker.node_token(caller.run, "tes")
            return await self.tes.create(task, token)

        created = await self.store.sent(number, creation())
        await self.store.created(number, created)
        await self.audit.record(
            AuditEvent("own-task-created", True, "gateway", caller.run, caller.attempt, created, what=f"{job}: {what}")
        )
        return created

    async def last(self, run: str, job: str) -> tuple[str, str] | None:
        """(id at the TES, state) of the job's last task; None where none was sent. TesAway."""
        known = await self.store.latest(run, job, "1")
        if known is None or not known.tes_id:
            return None
        task = await self.tes.get(known.tes_id, "MINIMAL")
        return known.tes_id, state_of(task) if task is not None else "UNKNOWN"

    def _task(self, own: OwnTask, image: str, secret: str) -> Task:
        policy = self.policy.current()
        inputs = [Input(content=SCRIPT.read_text(encoding="utf-8"), path="/gdi/work/own/script.py", type="FILE")]
        paths = []
        for number, files in enumerate(own.files):
            for place, file in enumerate(files):
                name = file.path.removesuffix(".c4gh")
                suffix = next((s for s in SUFFIXES if name.endswith(s)), ".table")
                path = f"{HOME}/{number}/{place}{suffix}"
                inputs.append(Input(url=f"{file.tes_url}#{secret}", path=path, type="FILE"))
                paths.append(path)
        first = [own.mode]
        if own.question:
            inputs.append(Input(content=own.question, path="/gdi/work/own/question.json", type="FILE"))
            first.append("/gdi/work/own/question.json")
        out = f"{HOME}/result.json"
        command = ["python3", "-I", "/gdi/work/own/script.py", *first, out, *paths]
        return Task(
            name="node-own",
            inputs=inputs,
            outputs=[Output(url=f"s3://{self.workspace.name}/{own.result}", path=out, type="FILE")],
            executors=[Executor(image=image, command=command, workdir=HOME)],
            resources=Resources(
                cpu_cores=1, ram_gb=min(2.0, policy.max_ram_gb), disk_gb=min(100.0, policy.max_disk_gb)
            ),
            tags={"gdi-own": own.mode},
        )
