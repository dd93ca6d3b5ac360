"""A round of an order: one task of the node's TES, which sees the people's file that the analysis left, the broadcast
and the workflow's scripts (decision 864).
"""

from __future__ import annotations

from dataclasses import dataclass

from tes.models import Executor, Input, Output, Resources, Task

from gdi.contracts.gateway_api import RoundProgress, RoundTask
from gdi.contracts.tes import FINAL
from gdi.contracts.urls import WorkspaceUrl
from gdi.kit.problem import ProblemError
from node_gateway.auth import Caller
from node_gateway.db.locks import DatabaseLocks
from node_gateway.locations import check_path, to_s3
from node_gateway.own_tasks.tasks import HOME, OwnTasks
from node_gateway.policy import Policy, PolicyFile
from node_gateway.tasks.store import OWN_JOB

PEOPLE, BROADCAST, OUT, SCRIPTS = (
    f"{HOME}/{name}" for name in ("people.json", "broadcast.json", "out.json", "scripts")
)


@dataclass
class RoundTasks:
    tasks: OwnTasks
    policy: PolicyFile
    locks: DatabaseLocks

    async def ask(self, caller: Caller, wish: RoundTask) -> RoundProgress:
        """How the round's task stands, sent where it was not. ProblemError 403 where the caller is not the node's own
        agent, or the policy serves no rounds or not this image; TesAway.
        """
        policy = self.policy.current()
        need_own_agent(caller, policy, wish.image)
        check_path(wish.people, str(WorkspaceUrl(caller.run, wish.people)))
        path, job = path_of(caller.attempt, wish.number), f"{job_of(caller.attempt, wish.number)}-{wish.try_}"
        async with self.locks.alone("round", caller.run):
            last = await self.tasks.last(caller.run, job)
            if last is None:
                task = task_of(caller.run, wish, self.tasks.workspace.name, path, policy)
                await self.tasks.send_task(caller, job, task, f"round {wish.number}")
                return RoundProgress(state="QUEUED", path=path)
        task_id, state = last
        if state in FINAL:
            await self.tasks.store.ended({task_id: state})
        return RoundProgress(state=state, path=path)


def need_own_agent(caller: Caller, policy: Policy, image: str) -> None:
    if not caller.own or policy.placement != "node":
        detail = "The node's own agent alone asks for rounds."
        raise ProblemError(403, "missing-scope", detail, action="Put an order of the kind round at the broker.")
    if policy.releases.rounds is False:
        raise ProblemError(403, "not-open", "This node's policy serves no rounds.", action="Ask the node's operator.")
    if not policy.allows_image(image):
        detail = f"This node does not allow the image {image}."
        raise ProblemError(403, "forbidden-image", detail, action="Use one that its policy allows.")


def job_of(attempt: int, number: int) -> str:
    return f"{OWN_JOB}round-{attempt}-{number}"


def path_of(attempt: int, number: int) -> str:
    """Below the run. Its tasks have ended when rounds begin; what one wrote there is written anew."""
    return f"gdi-rounds/{attempt}/{number}.json"


def task_of(run: str, wish: RoundTask, bucket: str, path: str, policy: Policy) -> Task:
    inputs = [Input(content=text, path=f"{SCRIPTS}/{name}", type="FILE") for name, text in wish.scripts.items()]
    inputs.append(Input(content=wish.broadcast, path=BROADCAST, type="FILE"))
    inputs.append(Input(url=to_s3(WorkspaceUrl(run, wish.people), bucket), path=PEOPLE, type="FILE"))
    command = ["python3", "-B", f"{SCRIPTS}/{wish.script}", PEOPLE, BROADCAST, OUT]
    return Task(
        name=f"round-{wish.number}",
        inputs=inputs,
        outputs=[Output(url=to_s3(WorkspaceUrl(run, path), bucket), path=OUT, type="FILE")],
        executors=[Executor(image=wish.image, command=command, workdir=HOME)],
        resources=Resources(cpu_cores=1, ram_gb=min(wish.ram_gb, policy.max_ram_gb), disk_gb=1),
        tags={"gdi-own": "round"},
    )
