"""What an order's kind means here: an analysis starts Snakemake, a release is checked and pushed, a close ends what is
left. Each goes on where it was when the agent, the gateway or the broker was away.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import statistics
import time
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

import httpx

from gdi.broker_client.node_agent import CHUNK, NodeAgentClient
from gdi.contracts.gateway_api import Released, ReleaseRequest
from gdi.contracts.ids import make_pod_name
from gdi.contracts.process_host import HostedPod, PodRequest
from gdi.contracts.workflow import Workflow
from gdi.kit.problem import ProblemError
from gdi.kit.retry import RetryPolicy, acall_again
from node_gateway.agent.decision import RefusedOrder
from node_gateway.agent.launcher import AgentLauncher
from node_gateway.agent.own_gateway import OwnGateway
from node_gateway.node_orders import NodeOrder, NodeOrders

log = logging.getLogger(__name__)
T = TypeVar("T")
POLL = 0.5
PLACE_POLL = 2.0  # seconds between two looks whether an analysis may begin
GRACE = 55.0  # seconds in which a pod cancels its tasks
AGAIN = 75  # a pod's exit code: start another
MAX_STARTS = 4
PATIENCE = 600.0  # seconds for a gateway or launcher that is away


@dataclass
class EndRequest:
    """That an order ends: `why` is empty while nobody wants that."""

    why: str = ""
    event: asyncio.Event = field(default_factory=asyncio.Event)

    def set(self, why: str) -> None:
        if not self.why:
            self.why = why
            self.event.set()


@dataclass(frozen=True)
class OrderEnd:
    """How an order ended, for the broker's and the node's own record."""

    state: str
    reason: str = ""
    detail: str = ""
    dataset: str | None = None
    released: tuple[Released, ...] = ()


@dataclass
class Duties:
    """`restore`: puts a workflow's files where the launcher looks for them, by digest, if they are not there; errors as
    the launcher's. `max_runs`: how many analyses are at work at once; the others wait, however many the broker orders.
    """

    node: str
    audience: str
    orders: NodeOrders
    launcher: AgentLauncher
    gateway: OwnGateway
    broker: NodeAgentClient
    restore: Callable[[str], Awaitable[None]]
    max_runs: int = 20
    at_work: set[tuple[str, str, int]] = field(default_factory=set)
    lasted: deque[float] = field(default_factory=lambda: deque(maxlen=20))  # seconds, of the last analyses that ended

    def expected(self, before: int) -> float | None:
        """In how many seconds an analysis would begin that has so many before it; None where that is not known."""
        if before < self.max_runs:
            return 0.0
        return statistics.median(self.lasted) * (before - self.max_runs + 1) / self.max_runs if self.lasted else None

    # --- analyse ---------------------------------------------------------------------------------

    async def analyse(self, order: NodeOrder, wish: EndRequest, alive: Callable[..., Awaitable[None]]) -> OrderEnd:
        """Snakemake, to its end. A pod that is lost, or says so, is followed by the next."""
        if (end := await self._place(order, wish, alive)) is not None:
            return end
        began = time.monotonic()
        try:
            return await self._analysis(order, wish, alive)
        finally:
            self.lasted.append(time.monotonic() - began)
            self.at_work.discard(order.key)

    async def _place(
        self, order: NodeOrder, wish: EndRequest, alive: Callable[..., Awaitable[None]]
    ) -> OrderEnd | None:
        """Waits for a place among those at work; one that has a pod is looked after at once. The order's end, where it
        comes first.
        """
        while order.pod is None and len(self.at_work) >= self.max_runs:
            if time.time() >= order.deadline:
                return OrderEnd("expired", detail="The order's time is over.")
            if wish.why:
                return OrderEnd("cancelled", reason=wish.why)
            await alive()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(wish.event.wait(), PLACE_POLL)
        self.at_work.add(order.key)
        return None

    async def _analysis(self, order: NodeOrder, wish: EndRequest, alive: Callable[..., Awaitable[None]]) -> OrderEnd:
        generation = max(1, order.pod_generation)
        while True:
            pod = await self._pod(await self._now(order), generation)
            pod = await self._wait(order, pod, wish, alive)
            order = await self._now(order)
            if pod.exit_code == 0 and not wish.why:
                return OrderEnd("succeeded")
            if time.time() >= order.deadline:
                return OrderEnd("expired", detail="The order's time is over.")
            if wish.why:
                return OrderEnd("cancelled", reason=wish.why)
            lost = pod.state == "lost" or pod.signal is not None or pod.exit_code == AGAIN
            if not lost or generation >= MAX_STARTS:
                reason = (order.detail or pod.reason[:500]) if order.approved else "TaskFailed"
                return OrderEnd(
                    "failed", detail=reason or "Snakemake failed; the node has its log.", dataset=order.dataset
                )
            log.warning("pod %s is lost; its replacement is started", pod.name)
            generation += 1

    async def _pod(self, order: NodeOrder, generation: int) -> HostedPod:
        """The pod of that generation, running or ended. Its uid is pinned before it starts."""
        name = make_pod_name(order.run, self.node, order.attempt, generation)
        request = PodRequest(
            run=order.run,
            attempt=order.attempt,
            node=self.node,
            workflow=order.workflow,
            digest=order.digest,
            parameters=order.parameters,
            datasets=order.datasets,
            gateway_url=self.audience,
            audience=self.audience,
        )
        pod = await self.patiently(lambda: self.launcher.get(name))
        pinned = order.pod_uid if order.pod == name else None
        if pinned is not None and (pod is None or pod.uid != pinned):
            return _gone(request, name, pinned)  # it was made once, and is never made anew under its name
        if pinned is None and pod is not None and pod.state != "created":
            return _gone(request, name, pod.uid)  # not ours: each of ours is pinned before it starts
        if pod is None or (pod.state == "created" and not pod.stopping):  # perhaps without its files yet
            await self.patiently(lambda: self.restore(order.digest))
            pod = await self.patiently(lambda: self.launcher.create(name, request))
        await self.orders.change(order, pod=name, pod_uid=pod.uid, pod_generation=generation)
        if pod.state == "created" and not pod.stopping:
            pod = await self.patiently(lambda: self.launcher.start(name))
        return pod

    async def _wait(
        self, order: NodeOrder, pod: HostedPod, wish: EndRequest, alive: Callable[..., Awaitable[None]]
    ) -> HostedPod:
        stopped, name, uid = False, pod.name, pod.uid
        telling = asyncio.create_task(_telling(alive))  # a broker that is slow to hear keeps no stop waiting
        try:
            while pod.state not in ("exited", "lost"):
                if time.time() >= order.deadline:
                    wish.set("its time is over")
                if wish.why and not stopped:
                    await self.patiently(lambda: self.launcher.stop(name, "cancel", GRACE, uid=uid))
                    stopped = True
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(asyncio.Event().wait() if stopped else wish.event.wait(), POLL)
                found = await self.patiently(lambda: self.launcher.get(name))
                if found is None or found.uid != uid:
                    return pod.model_copy(update={"state": "lost"})
                pod = found
            return pod
        finally:
            telling.cancel()

    # --- release ---------------------------------------------------------------------------------

    async def release(
        self, order: NodeOrder, wanted: list[ReleaseRequest], wish: EndRequest, alive: Callable[..., Awaitable[None]]
    ) -> OrderEnd:
        """Each is checked by the gateway, waits for a person where it has to, and is pushed."""
        done: list[Released] = []
        for request in wanted:
            try:
                released = await self.published(order, request, wish, alive)
            except ProblemError as error:
                if error.problem.status >= 500:
                    raise
                return OrderEnd("failed", reason=error.slug, detail=_reasons(request.name, error))
            if released is None:
                return OrderEnd("expired" if time.time() >= order.deadline else "cancelled", reason=wish.why)
            await self._push(order, released)
            done.append(released)
        return OrderEnd("succeeded", released=tuple(done))

    async def published(
        self, order: NodeOrder, request: ReleaseRequest, wish: EndRequest, alive: Callable[..., Awaitable[None]]
    ) -> Released | None:
        """None where the end was asked for first."""
        while True:
            released = await self.patiently(lambda: self.gateway.ask_release(order, request))
            if released is not None:
                return released
            await self.orders.change(order, detail=f"awaiting-review: {request.name}")
            state = "awaiting-review"
            await alive(now=True)
            while state == "awaiting-review":
                await alive()
                if wish.why or time.time() >= order.deadline:
                    return None
                state = await self.patiently(lambda: self.gateway.review(order, request.name))

    async def _push(self, order: NodeOrder, released: Released) -> None:
        """To the coordinator's store, from where it has it."""
        async with self.gateway.published(order, released) as file:
            total = file.seek(0, 2)

            async def once() -> None:
                here = await self.broker.offset(order.run, self.node, released.name, released.sha256)
                while not here.complete:
                    file.seek(here.offset)
                    here = await self.broker.put_chunk(
                        order.run,
                        self.node,
                        released.name,
                        released.sha256,
                        offset=here.offset,
                        total=total,
                        chunk=file.read(CHUNK),
                    )

            await self.patiently(once, total=max(60.0, order.deadline - time.time()))

    # --- close -----------------------------------------------------------------------------------

    async def close(self, order: NodeOrder) -> OrderEnd:
        cancelled = await self.patiently(lambda: self.gateway.close(order))
        return OrderEnd("succeeded", detail=f"{cancelled} tasks cancelled")

    async def _now(self, order: NodeOrder) -> NodeOrder:
        return await self.orders.get(*order.key) or order

    @staticmethod
    async def patiently(call: Callable[[], Awaitable[T]], total: float = PATIENCE) -> T:
        """Again while the other side is away."""
        return await acall_again(
            call, RetryPolicy(total=total, first=0.3, longest=10), again=lambda failure: is_away(failure.error)
        )


async def _telling(alive: Callable[..., Awaitable[None]]) -> None:
    while True:
        await alive()
        await asyncio.sleep(POLL)


def _gone(request: PodRequest, name: str, uid: str) -> HostedPod:
    """A pod that was pinned, and is not there any more."""
    values = {"run": request.run, "attempt": request.attempt, "node": request.node}
    return HostedPod(name=name, uid=uid, state="lost", created_at=0, **values)


def is_away(error: Exception) -> bool:
    if isinstance(error, ProblemError):
        return error.problem.status >= 500 or error.problem.status == 429 or error.slug == "wrong-offset"
    return isinstance(error, httpx.HTTPError)


def wanted_releases(order: list[ReleaseRequest], workflow: Workflow, *, approved: bool) -> list[ReleaseRequest]:
    """What is asked for as the workflow's own files declare it: path and kind are not the coordinator's to say. Where
    nobody approved the workflow, a person looks. RefusedOrder `release-unknown`.
    """
    declared = {release.name: release for release in workflow.releases}
    found: list[ReleaseRequest] = []
    for name in dict.fromkeys(request.name for request in order):
        own: Any = declared.get(name)
        if own is None:
            raise RefusedOrder("release-unknown", f"The workflow declares no release {name}.")
        review = own.review or not approved
        found.append(ReleaseRequest(name=own.name, path=own.path, kind=own.kind, review=review, levels_in=own.levels))
    if not found:
        raise RefusedOrder("release-unknown", "The order names no release.")
    return found


def _reasons(name: str, error: ProblemError) -> str:
    reasons = (error.problem.model_extra or {}).get("reasons")
    more = "; ".join(str(r)[:200] for r in reasons[:10]) if isinstance(reasons, list) else error.problem.detail[:500]
    return f"the release {name}: {more}"[:2000]
