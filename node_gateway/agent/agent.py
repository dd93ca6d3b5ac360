"""The agent's loops: work by long poll, one handler for each order, heartbeats. The node's database says what was
taken; after a restart each order goes on where it was.
"""

from __future__ import annotations

import asyncio
import logging
import time
from dataclasses import dataclass, field
from typing import Any

import httpx

from gdi.broker_client.node_agent import NodeAgentClient, conflict_of
from gdi.contracts.gateway_api import ReleaseRequest
from gdi.contracts.nodes import HEARTBEAT_EVERY, MAX_TERMS, Heartbeat, PreflightReply
from gdi.contracts.orders import (
    LEASE,
    OrderClaims,
    OrderReport,
    WorkItem,
    WorkQuestion,
)
from gdi.contracts.overlaps import shared_people
from gdi.kit import tracing
from gdi.kit.problem import ProblemError
from gdi.kit.version import installed
from node_gateway.agent.decision import RefusedOrder, need_placement
from node_gateway.agent.duties import Duties, EndRequest, OrderEnd, is_away, wanted_releases
from node_gateway.agent.judge import Judge, rules_in, short
from node_gateway.agent.round_duty import RoundDuty, wanted_round
from node_gateway.audit import Audit, AuditEvent
from node_gateway.explanation import limits
from node_gateway.node_orders import NodeOrder, NodeOrders
from node_gateway.policy import PolicyFile

log = logging.getLogger(__name__)
HOLD = 25.0  # seconds for which the broker may hold the question for work
PAUSE = 1.0
TIDY_EVERY = 3600.0
AGAIN_EVERY = 30.0  # seconds between two judgements of what is at work
REVOKED = frozenset(  # what ends an order at work; an access that ends in its time is looked after where it is used
    (
        "no-visa",
        "visa-untrusted",
        "visa-invalid",
        "user-vetoed",
        "organisation-vetoed",
        "project-vetoed",
        "workflow-blocked",
        "workflow-not-approved",
    )
)
ANALYSIS_LOOK = 60.0  # seconds between two looks at the clock, while a release waits for its analysis
MAX_QUESTIONS = 20  # answered at once
Key = tuple[str, str, int]


@dataclass
class _Handler:
    """`order`: as it was signed, to be judged again; empty until the broker told it since the agent's start."""

    wish: EndRequest
    task: asyncio.Task[None]
    order: str = ""


@dataclass
class NodeAgent:
    node: str
    policy: PolicyFile
    judge: Judge
    orders: NodeOrders
    broker: NodeAgentClient
    duties: Duties
    rounds: RoundDuty
    audit: Audit
    _handlers: dict[Key, _Handler] = field(default_factory=dict)
    _answers: set[asyncio.Task[None]] = field(default_factory=set)

    async def run(self) -> None:
        """Until it is cancelled. Pods go on without the agent; the next one finds them."""
        for order in await self.orders.unfinished():
            if order.state == "running" or order.over:
                self._begin(order.key, self._resume, order)
        async with asyncio.TaskGroup() as loops:
            loops.create_task(self._poll())
            loops.create_task(self._beat())
            loops.create_task(self._tidy())
            loops.create_task(self._judge_again())

    async def stop(self) -> None:
        tasks = [*(handler.task for handler in self._handlers.values()), *self._answers]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=5)

    # --- loops -----------------------------------------------------------------------------------

    async def _poll(self) -> None:
        after, wait = 0, 0.0
        while True:
            try:
                work = await self.broker.work(self.node, after=after, wait=wait)
            except (ProblemError, httpx.HTTPError) as error:
                log.warning("the broker gives no work: %s", short(error))
                after, wait = 0, 0.0  # what was missed meanwhile comes again
                await asyncio.sleep(PAUSE)
                continue
            for item in work.items:
                self._item(item)
            for question in work.questions:
                if len(self._answers) >= MAX_QUESTIONS:
                    log.warning("more than %d questions at once: one is not answered", MAX_QUESTIONS)
                    continue
                task = asyncio.create_task(self._answer(question))
                self._answers.add(task)
                task.add_done_callback(self._answers.discard)
            after, wait = work.next_after, HOLD

    async def _beat(self) -> None:
        while True:
            try:
                await self.broker.beat(self.node, await self.heartbeat())
            except (ProblemError, httpx.HTTPError) as error:
                log.warning("the broker took no heartbeat: %s", short(error))
            await asyncio.sleep(HEARTBEAT_EVERY)

    async def _tidy(self) -> None:
        while True:
            if removed := await self.judge.tidy():
                log.info("the files of %d workflows that nothing needs were removed", removed)
            await asyncio.sleep(TIDY_EVERY)

    async def _judge_again(self) -> None:
        """What is at work has to be admissible as long as it works: visas by the keys that their issuers have now, and
        vetoes, stops and approvals as they are now. The coordinator's word is not needed to end it.
        """
        while True:
            await asyncio.sleep(AGAIN_EVERY)
            for key, handler in list(self._handlers.items()):
                try:
                    if (why := await self._why_not(key, handler)) is not None:
                        await self._audit(False, key[0], key[2], why)
                        handler.wish.set(why)
                except Exception as error:  # one that cannot be judged now is judged at the next time
                    log.warning("order %s is not judged again now: %s", key, short(error))

    async def _why_not(self, key: Key, handler: _Handler) -> str | None:
        """Why an order at work would not be admitted any more. A server that is away is no reason."""
        run, kind, attempt = key
        if kind not in ("analyse", "round", "release") or not handler.order or handler.wish.why:
            return None
        order = await self.orders.get(run, kind, attempt)
        if order is None or order.state != "running":
            return None
        try:
            claims = await self.judge.claims(handler.order, run, kind, attempt)
            await self.judge.admitted(claims, await self.judge.files(claims.digest))
        except RefusedOrder as refused:
            return f"{refused.reason}: {refused.detail}" if refused.reason in REVOKED else None
        return None

    async def heartbeat(self) -> Heartbeat:
        health = await self.duties.gateway.health()
        live: int | None = None
        try:
            await self.duties.launcher.upkeep()
            live = await self.duties.launcher.live()
            health["launcher"] = "ok"
        except (ProblemError, httpx.HTTPError) as error:
            health["launcher"] = short(error)[:200]
        free = None if live is None else max(0, self.duties.max_runs - live)
        version, placement = installed("gdi-node-gateway")[1], self.policy.current().placement
        described = self.policy.datasets.all()
        return Heartbeat(
            version=version,
            placement=placement,
            time=time.time(),
            health=health,
            free_slots=free,
            limits=limits(self.policy.current(), described),
            terms={one.dataset: list(one.use) for one in described[:MAX_TERMS] if one.use and one.exact},
            cohorts=await self.orders.newest_cohorts(),
        )

    def _item(self, item: WorkItem) -> None:
        key = (item.status.run, item.status.kind, item.status.attempt)
        handler = self._handlers.get(key)
        if handler is None:
            self._begin(key, self._take, item)
        self._handlers[key].order = item.order
        if item.status.cancelling:
            self._handlers[key].wish.set(item.status.cancelling)

    def _begin(self, key: Key, work: Any, given: Any) -> None:  # one of the coroutines below, and what it takes
        wish = EndRequest()

        async def guarded() -> None:
            try:
                await work(given, wish)
            except Exception as error:  # a handler that dies in silence would leave an order for ever
                log.error("order %s: %s: %s", key, type(error).__name__, short(error))
            finally:
                self._handlers.pop(key, None)

        self._handlers[key] = _Handler(wish, asyncio.create_task(guarded()))

    # --- one order -------------------------------------------------------------------------------

    async def _take(self, item: WorkItem, wish: EndRequest) -> None:
        status = item.status
        try:
            claims = await self.judge.claims(item.order, status.run, status.kind, status.attempt)
        except RefusedOrder as refused:
            await self._audit(False, status.run, status.attempt, f"{refused.reason}: {refused.detail}")
            log.error("an order of the broker's is not taken: %s", refused.detail)
            return
        tracing.enter(claims.trace)
        began = time.time()
        if tracing.current():
            log.info("order %s of run %s is at work", claims.kind, claims.run)
        try:
            await self._follow(item, claims, wish)
        finally:
            tracing.record_span(f"order {claims.kind}", claims.trace, began)

    async def _follow(self, item: WorkItem, claims: OrderClaims, wish: EndRequest) -> None:
        status = item.status
        known = await self.orders.get(*(claims.run, claims.kind, claims.attempt))
        if known is not None and known.nonce == claims.jti and known.state != "taken":
            await self._resume(known, wish)
            return
        await self._stop_earlier(claims)
        generation = known.broker_generation if known is not None and known.nonce == claims.jti else None
        if generation is None or status.generation != generation:
            generation = await self._taken(item, claims)
        if generation is None:
            return
        fresh = await self.orders.add(claims, generation)
        order = await self.orders.get(claims.run, claims.kind, claims.attempt)
        if order is None or order.nonce != claims.jti:
            await self._refuse_unrecorded(claims, generation)
            return
        if not fresh:
            order = await self.orders.change(order, broker_generation=generation)
        await self._judge(order, claims, wish)

    async def _taken(self, item: WorkItem, claims: OrderClaims) -> int | None:
        """The broker's generation; None where the order is over meanwhile."""
        while time.time() < claims.deadline:
            try:
                return (await self.broker.take(item.status, claims.jti)).generation
            except ProblemError as error:
                # A page of a proxy's is no word about an order.
                own = error.slug != "http-error"
                if conflict_of(error) in ("order-over", "order-nonce") or (own and error.problem.status in (403, 404)):
                    return None
            except httpx.HTTPError:
                pass
            await asyncio.sleep(PAUSE)
        return None

    async def _stop_earlier(self, claims: OrderClaims) -> None:
        """A later attempt stops those before it, here first."""
        earlier = [
            handler
            for (run, kind, attempt), handler in self._handlers.items()
            if run == claims.run and attempt < claims.attempt and kind != "close"
        ]
        for handler in earlier:
            handler.wish.set(f"attempt {claims.attempt} took over")
        if earlier:
            await asyncio.wait([handler.task for handler in earlier], timeout=90)

    async def _judge(self, order: NodeOrder, claims: OrderClaims, wish: EndRequest) -> None:
        try:
            if claims.kind == "close":
                order = await self.orders.change(order, state="running")
                await self._work(order, wish)
                return
            if claims.kind in ("release", "round") and (early := await self._after_analysis(order, wish)) is not None:
                await self._report_end(await self.orders.change(order, state=early, reason=wish.why[:255]))
                return
            files = await self.judge.files(claims.digest)
            await self.judge.not_older(claims)
            admitted, proofs = await self.judge.admitted(claims, files)
            admitted = await self.judge.one_analysis(claims, admitted)
            wanted: list[ReleaseRequest] = []
            if claims.kind == "release":
                wanted = wanted_releases(claims.releases, files.workflow, approved=admitted.approved)
                cohort = await self.judge.analysed(claims)
                wanted = [one.model_copy(update={"cohort": cohort}) for one in wanted]
            elif claims.kind == "round":
                one_round = wanted_round(files.workflow, self.policy.current(), approved=admitted.approved)
                wanted = [one_round.model_copy(update={"cohort": await self.judge.analysed(claims)})]
            else:
                await self.judge.keep(claims.digest, files)
            order = await self.orders.change(
                order,
                state="running",
                wanted=[one.model_dump(mode="json") for one in wanted],
                parameters=admitted.parameters,
                approved=admitted.approved,
                access_ends_at=proofs.ends_at,
                rules=rules_in(files),
            )
            await self.judge.not_older(claims)  # one that came meanwhile has not seen these parameters
        except RefusedOrder as refused:
            await self._audit(False, order.run, order.attempt, f"{refused.reason}: {refused.detail}", order.user)
            order = await self.orders.change(order, state="refused", reason=refused.reason, detail=refused.detail)
            await self._report_end(order)
            return
        await self._audit(True, order.run, order.attempt, f"{order.kind}, approved by {admitted.by}", order.user)
        if claims.kind == "analyse":
            for dataset, proof in proofs.lines.items():
                event = AuditEvent("visa", True, order.user, order.run, order.attempt, dataset=dataset, what=proof)
                await self.audit.record(event)
        await self._work(order, wish)

    async def _after_analysis(self, order: NodeOrder, wish: EndRequest) -> str | None:
        """An order to release may come before the analysis is done: it waits for that. The order's end, where it comes
        first.
        """
        while True:
            analysis = self._handlers.get((order.run, "analyse", order.attempt))
            if analysis is None:
                return None
            if time.time() >= order.deadline:
                return "expired"
            if wish.why:
                return "cancelled"
            ended = asyncio.create_task(wish.event.wait())
            await asyncio.wait({analysis.task, ended}, timeout=ANALYSIS_LOOK, return_when=asyncio.FIRST_COMPLETED)
            ended.cancel()

    async def _resume(self, order: NodeOrder, wish: EndRequest) -> None:
        if order.over:
            await self._report_end(order)
        else:
            await self._work(order, wish)

    async def _work(self, order: NodeOrder, wish: EndRequest) -> None:
        heard = [0.0]

        async def alive(now: bool = False) -> None:
            if now or time.monotonic() - heard[0] > LEASE / 4:
                heard[0] = time.monotonic()
                await self._report_running(order, wish)

        await alive()
        try:
            end = await self._duty(order, wish, alive)
        except RefusedOrder as refused:
            end = OrderEnd("failed", refused.reason, refused.detail)
        except (ProblemError, httpx.HTTPError) as error:
            end = OrderEnd("failed", detail=f"the node could not do it: {short(error)}"[:500])
        order = await self.orders.change(
            order,
            state=end.state,
            reason=end.reason[:255],
            detail=end.detail,
            dataset=end.dataset,
            cancelling=wish.why,
            released=[one.model_dump(mode="json") for one in end.released],
        )
        ended = f"{order.kind} {order.state} {end.reason} {end.detail}".strip()
        await self._audit(order.state == "succeeded", order.run, order.attempt, ended, order.user)
        await self._report_end(order)

    async def _duty(self, order: NodeOrder, wish: EndRequest, alive: Any) -> OrderEnd:
        if order.kind == "analyse":
            return await self.duties.analyse(order, wish, alive)
        if order.kind == "release":
            wanted = [ReleaseRequest.model_validate(one) for one in order.wanted]
            return await self.duties.release(order, wanted, wish, alive)
        if order.kind == "round":
            return await self.rounds.serve(order, wish, alive)
        if order.kind == "close":
            await self._stop_run(order)
            return await self.duties.close(order)
        raise RefusedOrder("bad-order", f"This node knows no order {order.kind}.")

    async def _stop_run(self, order: NodeOrder) -> None:
        mine = [
            handler
            for (run, kind, attempt), handler in self._handlers.items()
            if run == order.run and attempt <= order.attempt and kind != "close"
        ]
        for handler in mine:
            handler.wish.set("the run is closed")
        if mine:
            await asyncio.wait([handler.task for handler in mine], timeout=90)

    # --- questions -------------------------------------------------------------------------------

    async def _answer(self, question: WorkQuestion) -> None:
        """Whether a run would be admitted, by the same code."""
        try:
            claims = await self.judge.question(question.question)
        except RefusedOrder as refused:
            log.error("a question of the broker's is not answered: %s", refused.detail)
            return
        queued = sum(key[1] == "analyse" for key in self._handlers)
        try:
            need_placement(self.policy.current())
            await self.judge.admitted(claims, await self.judge.files(claims.digest))
            overlaps = shared_people(map(self.policy.datasets.of, claims.datasets))
            expected = self.duties.expected(queued)
            reply = PreflightReply(admitted=True, queued=queued, expected=expected, overlaps=overlaps)
        except RefusedOrder as refused:
            reply = PreflightReply(admitted=False, reason=refused.reason, detail=refused.detail, queued=queued)
        await self._audit(reply.admitted, "", 0, f"preflight of {claims.workflow}: {reply.reason}", claims.sub)
        try:
            await self.broker.answer(question.id, self.node, reply)
        except (ProblemError, httpx.HTTPError) as error:
            log.warning("the broker took no answer: %s", short(error))

    # --- what is told ----------------------------------------------------------------------------

    async def _report_running(self, order: NodeOrder, wish: EndRequest) -> None:
        now = await self.orders.get(*order.key) or order
        report = OrderReport(
            attempt=order.attempt, generation=order.broker_generation, state="running", detail=now.detail[:200]
        )
        if order.kind == "analyse":  # what its pod said last is told at its end
            report = report.model_copy(update={"detail": ""})
        try:
            status = await self.broker.report(order.run, self.node, order.kind, report)
        except ProblemError as error:
            if conflict_of(error) in ("order-over", "order-fenced"):
                wish.set("the broker gave the order up")
            return
        except httpx.HTTPError:
            return  # a node that is not heard goes on
        if status.cancelling:
            wish.set(status.cancelling)

    async def _report_end(self, order: NodeOrder) -> None:
        """For as long as it takes: the broker may be away. What it does not want to hear is told all the same."""
        pause = PAUSE
        while not order.reported and order.state != "expired":
            report = OrderReport.model_validate(
                {
                    "attempt": order.attempt,
                    "generation": order.broker_generation,
                    "state": order.state,
                    "reason": order.reason,
                    "detail": order.detail,
                    "dataset": order.dataset,
                    "released": order.released,
                }
            )
            try:
                await self.broker.report(order.run, self.node, order.kind, report)
                break
            except (ProblemError, httpx.HTTPError) as error:
                if not is_away(error):
                    log.warning("order %s: its end is no news: %s", order.key, short(error))
                    break
            await asyncio.sleep(pause)
            pause = min(30.0, pause * 2)
        await self.orders.change(order, reported=True)

    async def _refuse_unrecorded(self, claims: OrderClaims, generation: int) -> None:
        """An order whose like, or whose nonce, this node had before."""
        detail = "This node had an order like this before."
        await self._audit(False, claims.run, claims.attempt, f"order-replayed: {detail}", claims.sub)
        report = OrderReport(
            attempt=claims.attempt, generation=generation, state="refused", reason="order-replayed", detail=detail
        )
        try:
            await self.broker.report(claims.run, self.node, claims.kind, report)
        except (ProblemError, httpx.HTTPError) as error:
            log.warning("a refusal could not be told: %s", short(error))

    async def _audit(self, allowed: bool, run: str, attempt: int, what: str, user: str = "broker") -> None:
        reason = "" if allowed else what
        await self.audit.record(
            AuditEvent("order", allowed, user, run, attempt, what=what if allowed else "", reason=reason)
        )
