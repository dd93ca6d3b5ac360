"""An order `round`: one question after the other, each admitted, computed by a task of the node's TES, checked as a
release, and answered. It goes on where it was when anybody was away or killed (decision 864).
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import PurePosixPath

import httpx

from gdi.broker_client.node_agent import conflict_of
from gdi.contracts.gateway_api import Released, ReleaseRequest, RoundProgress, RoundTask
from gdi.contracts.packed_workflow import UnpackedWorkflow
from gdi.contracts.round_messages import MAX_ANSWER, RoundAnswer, RoundNews
from gdi.contracts.rounds import Broadcast, RoundConflict, RoundsDeclaration
from gdi.contracts.tes import FINAL
from gdi.contracts.workflow import Workflow
from gdi.kit.problem import ProblemError
from node_gateway.agent.decision import RefusedOrder
from node_gateway.agent.duties import Duties, EndRequest, OrderEnd, is_away
from node_gateway.node_orders import NodeOrder
from node_gateway.node_rounds import KeptRound, RoundHistory, expect_next, question_text
from node_gateway.policy import Policy

HOLD = 10.0  # seconds for which the broker may hold the question for a question; the lease is of 60
LOOK = 0.2  # between two looks at a round's task
MAX_LOOK = 2.0
PAUSE = 1.0
IDLE = 3600.0  # seconds without a question, after which nobody goes on with it
MAX_TRIES = 3  # of a round's task that the TES lost
LOST = frozenset({"SYSTEM_ERROR", "CANCELED", "PREEMPTED", "UNKNOWN"})
REFUSED = "round-refused"
Alive = Callable[..., Awaitable[None]]


class RoundEnd(Exception):
    """The order ends."""

    def __init__(self, end: OrderEnd) -> None:
        super().__init__(end.state)
        self.end = end


@dataclass
class RoundDuty:
    duties: Duties
    history: RoundHistory
    files: Callable[[str], Awaitable[UnpackedWorkflow]]

    async def serve(self, order: NodeOrder, wish: EndRequest, alive: Alive) -> OrderEnd:
        """To the end of its rounds. RefusedOrder where the workflow's files cannot be had."""
        files = await self.files(order.digest)
        declared, (wanted, *_) = declared_rounds(files.workflow), order.wanted
        request = ReleaseRequest.model_validate(wanted)
        after, idle_from = 0, time.time()
        try:
            while True:
                self._need_time(order, wish, idle_from)
                await alive()
                news = await self._question(order, after, wish)
                if news is None or news.number == 0:
                    continue
                if news.broadcast is None:
                    return OrderEnd("succeeded", detail=f"{after} rounds")
                await self._answered(order, files, declared, request, news.number, news.broadcast, wish, alive)
                after, idle_from = news.number, time.time()
        except RoundEnd as ended:
            return ended.end

    def _need_time(self, order: NodeOrder, wish: EndRequest, idle_from: float) -> None:
        if time.time() >= order.deadline:
            raise RoundEnd(OrderEnd("expired", detail="The order's time is over."))
        if wish.why:
            raise RoundEnd(OrderEnd("cancelled", reason=wish.why))
        if time.time() > idle_from + IDLE:
            raise RoundEnd(OrderEnd("failed", detail=f"Nobody asked anything for {IDLE:g} s."))

    async def _question(self, order: NodeOrder, after: int, wish: EndRequest) -> RoundNews | None:
        """None while the broker is away, or where the end was asked for first."""
        place = (order.run, self.duties.node, order.attempt, order.broker_generation)
        call = asyncio.create_task(self.duties.broker.question(*place, after=after, wait=HOLD))
        ended = asyncio.create_task(wish.event.wait())
        try:
            await asyncio.wait({call, ended}, return_when=asyncio.FIRST_COMPLETED)
            return call.result() if call.done() else None
        except (ProblemError, httpx.HTTPError) as error:
            _end_where_given_up(error)
            await asyncio.sleep(PAUSE)
            return None
        finally:
            call.cancel()
            ended.cancel()

    async def _answered(
        self,
        order: NodeOrder,
        files: UnpackedWorkflow,
        declared: RoundsDeclaration,
        request: ReleaseRequest,
        number: int,
        broadcast: Broadcast,
        wish: EndRequest,
        alive: Alive,
    ) -> None:
        before = await self.history.of(order.run, order.attempt)
        try:
            fresh = expect_next(declared, before, number, broadcast)
        except RoundConflict as error:
            raise RoundEnd(OrderEnd("failed", reason=error.slug, detail=str(error))) from None
        text = question_text(number, broadcast)
        if fresh:
            await self.history.add(order.run, order.attempt, number, text)
        kept = next((one for one in before if one.number == number), KeptRound(number, text, ""))
        if kept.answer:  # of who was killed in between
            await self._tell(order, number, RoundAnswer.model_validate_json(kept.answer))
            return
        path = await self._computed(order, round_task(files, declared, number, text), wish, alive)
        wanted = request.model_copy(update={"name": f"round-{number}", "path": path})
        answer = await self._checked(order, wanted, wish, alive)
        await self.history.answer(order.run, order.attempt, number, answer.model_dump_json())
        await self._tell(order, number, answer)

    async def _computed(self, order: NodeOrder, task: RoundTask, wish: EndRequest, alive: Alive) -> str:
        """Where the round's file lies."""
        look = LOOK
        while True:
            progress = await self._progress(order, task)
            if progress.state == "COMPLETE":
                return progress.path
            if progress.state in LOST and task.try_ < MAX_TRIES:
                task = task.model_copy(update={"try_": task.try_ + 1})
                continue
            if progress.state in FINAL or progress.state in LOST:
                reason = f"The task of round {task.number} ended as {progress.state}; the node has its log."
                raise RoundEnd(OrderEnd("failed", reason="TaskFailed", detail=reason))
            self._need_time(order, wish, time.time())
            await alive()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(wish.event.wait(), look)
            look = min(MAX_LOOK, look * 1.1)

    async def _progress(self, order: NodeOrder, task: RoundTask) -> RoundProgress:
        return await self.duties.patiently(lambda: self.duties.gateway.ask_round(order, task))

    async def _checked(self, order: NodeOrder, wanted: ReleaseRequest, wish: EndRequest, alive: Alive) -> RoundAnswer:
        try:
            released: Released | None = await self.duties.published(order, wanted, wish, alive)
        except ProblemError as error:
            if error.problem.status >= 500:
                raise
            reasons = " ".join(map(str, (error.problem.model_extra or {}).get("reasons") or [error.problem.detail]))
            slug = REFUSED if REFUSED in reasons else error.slug
            raise RoundEnd(OrderEnd("failed", reason=slug, detail=f"{wanted.name}: {reasons}"[:2000])) from None
        if released is None:
            self._need_time(order, wish, time.time())
            raise RoundEnd(OrderEnd("cancelled", reason=wish.why))
        async with self.duties.gateway.published(order, released) as file:
            content = file.read(MAX_ANSWER + 1).decode()
        if len(content) > MAX_ANSWER:
            detail = f"{wanted.name} has more than {MAX_ANSWER} characters."
            raise RoundEnd(OrderEnd("failed", reason="release-too-large", detail=detail))
        return RoundAnswer(
            attempt=order.attempt, generation=order.broker_generation, released=released, content=content
        )

    async def _tell(self, order: NodeOrder, number: int, answer: RoundAnswer) -> None:
        """Under the generation that the order has now."""
        sent = answer.model_copy(update={"generation": order.broker_generation})
        try:
            await self.duties.patiently(
                lambda: self.duties.broker.put_answer(order.run, self.duties.node, number, sent)
            )
        except ProblemError as error:
            _end_where_given_up(error)
            raise RoundEnd(OrderEnd("failed", reason=conflict_of(error) or error.slug, detail=str(error))) from None


def declared_rounds(workflow: Workflow) -> RoundsDeclaration:
    """RefusedOrder `release-unknown`."""
    if workflow.rounds is None:
        raise RefusedOrder("release-unknown", "The workflow declares no rounds.")
    return workflow.rounds


def wanted_round(workflow: Workflow, policy: Policy, *, approved: bool) -> ReleaseRequest:
    """What each round is released as; number and path are its own. RefusedOrder: `release-unknown`, `not-open`."""
    declared = declared_rounds(workflow)
    if policy.releases.rounds is False:
        raise RefusedOrder("not-open", "This node's policy serves no rounds: its operator decides (releases.rounds).")
    if not workflow.needs.images:
        raise RefusedOrder("workflow-files", "The workflow has rounds, and names no image for them.")
    return ReleaseRequest(name="round", path=declared.people, kind=declared.answer, review=not approved)


def round_task(files: UnpackedWorkflow, declared: RoundsDeclaration, number: int, text: str) -> RoundTask:
    """The scripts beside the one that is run. RefusedOrder where there is none."""
    script = PurePosixPath(declared.script)
    beside = {
        name: content.decode(errors="replace")
        for name, content in files.files.items()
        if PurePosixPath(name).parent == script.parent and name.endswith(".py")
    }
    if declared.script not in beside:
        raise RefusedOrder("workflow-files", "The workflow's script for rounds is not among its files.")
    return RoundTask(
        number=number,
        image=files.workflow.needs.images[0],
        scripts={PurePosixPath(name).name: content for name, content in beside.items()},
        script=script.name,
        people=declared.people,
        broadcast=text,
        ram_gb=min(64, files.workflow.needs.ram_gb),
    )


def _end_where_given_up(error: Exception) -> None:
    """RoundEnd where the broker gave the order up; any other error of its own than that it is away is raised."""
    if isinstance(error, ProblemError) and conflict_of(error) in ("order-over", "order-fenced"):
        raise RoundEnd(OrderEnd("cancelled", reason="the broker gave the order up")) from None
    if not is_away(error):
        raise error
