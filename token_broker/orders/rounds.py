"""The rounds of an order: the centre's questions and the node's answers, kept until the next but one. How they follow
each other `gdi.contracts.rounds` says; the broker reads no answer.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

import sqlalchemy as sa
from sqlalchemy import RowMapping
from sqlalchemy.ext.asyncio import AsyncConnection

from gdi.contracts import rounds as table
from gdi.contracts.events import Event
from gdi.contracts.order_table import OrderConflict
from gdi.contracts.orders import ENDED_ORDER
from gdi.contracts.round_messages import LAST, RoundAnswer, RoundNews, RoundQuestion, RoundStatus
from gdi.contracts.rounds import MAX_BYTES, MAX_ROUNDS, RoundConflict, RoundTable, body_of, digest_of
from gdi.kit.problem import ProblemError
from token_broker.db.store import BrokerDatabase, orders, rounds, runs
from token_broker.events.events import Events
from token_broker.orders.orders import conflict
from token_broker.runs.runs import Runs, need_open

LOOK = 0.5  # seconds between two looks of who waits: another replica may have the news
MAX_WAITS = 20  # of a side at once, in each replica
KEPT = 7 * 86_400.0  # seconds for which a round stays after its last change
KIND = "round"
S = TypeVar("S")
Place = tuple[str, str, int]
"""Run, node, attempt."""
WaitingPlace = tuple[str, str, int, str]
"""And who waits: the node or the centre."""


class Rounds:
    def __init__(self, store: BrokerDatabase, runs_: Runs, events: Events) -> None:
        self._store, self._runs, self._events = store, runs_, events
        self._waiting: dict[WaitingPlace, set[asyncio.Event]] = {}

    async def ask(self, run_id: str, node: str, number: int, question: RoundQuestion) -> RoundStatus:
        """The round, asked where it was not. 404 where there is no order `round`; 409 `order-over`, `round-differs`,
        `round-over`, `round-early`, `round-limit`; 413.
        """
        run = await self._runs.known(run_id)
        need_open(run, question.attempt)
        body = body_of(number, question.broadcast)
        if len(body) > MAX_BYTES:
            raise ProblemError(
                413, "too-large", f"A broadcast has at most {MAX_BYTES} bytes.", action="Broadcast fewer numbers."
            )
        place = (run_id, node, question.attempt)
        most = LAST if question.broadcast is None else MAX_ROUNDS
        async with self._store.write() as c:
            await _lock(c, run_id)
            _need_going_on(await _order(c, place))
            kept = await _kept(c, place)
            after = _judged(lambda: table.put(_table_of(kept), number, digest_of(body), most))
            if after != _table_of(kept):
                values = {"question": body.decode(), "answer": "", "answer_sha256": "", "changed_at": time.time()}
                await c.execute(rounds.insert().values(**_here(place), number=number, **values))
                await c.execute(rounds.delete().filter_by(**_here(place)).where(rounds.c.number < number - 1))
                if question.broadcast is not None:
                    await self._tell(c, run, node, number, done=False)
        self._wake(place)
        return await self.status(run_id, node, question.attempt, number)

    async def answer(self, run_id: str, node: str, number: int, answer: RoundAnswer) -> RoundStatus:
        """The round with its answer. 404; 409 `order-over`, `order-fenced`, `round-differs`, `round-over`,
        `round-early`; 422 `wrong-hash`.
        """
        run = await self._runs.known(run_id)
        digest = hashlib.sha256(answer.content.encode("utf-8", "surrogatepass")).hexdigest()
        if digest != answer.released.sha256:
            raise ProblemError(
                422, "wrong-hash", "The content is not what the release's checksum says.", action="Send it again."
            )
        place = (run_id, node, answer.attempt)
        async with self._store.write() as c:
            await _lock(c, run_id)
            _need_held(await _order(c, place), answer.generation)
            kept = await _kept(c, place)
            before = _table_of(kept)
            if kept and number == kept[-1]["number"] and json.loads(kept[-1]["question"])["broadcast"] is None:
                raise _refused("round-over", "There are no more rounds.")
            after = _judged(lambda: table.put_answer(before, number, digest))
            if after != before:
                values = {"answer": answer.model_dump_json(), "answer_sha256": digest, "changed_at": time.time()}
                await c.execute(rounds.update().filter_by(**_here(place), number=number).values(**values))
                await self._tell(c, run, node, number, done=True)
        self._wake(place)
        return await self.status(run_id, node, answer.attempt, number)

    async def news(self, run_id: str, node: str, attempt: int, generation: int, after: int, wait: float) -> RoundNews:
        """The newest question above `after`, at once or within `wait` seconds. 404; 409 `order-over`, `order-fenced`;
        429 where the node waits too often at once.
        """
        place = (run_id, node, attempt)

        async def look() -> RoundNews | None:
            async with self._store.read() as c:
                _need_held(await _order(c, place), generation)
                kept = await _kept(c, place)
            number = table.question_after(_table_of(kept), after)
            return None if number is None else RoundNews.model_validate_json(kept[-1]["question"])

        return await self._hold((*place, "node"), wait, look) or RoundNews()

    async def status(self, run_id: str, node: str, attempt: int, number: int, wait: float = 0) -> RoundStatus:
        """A round that is kept, as soon as it has an answer, or after `wait` seconds without. 404 `round-unknown`;
        409 `order-over` where no answer can come any more.
        """
        place = (run_id, node, attempt)

        async def row() -> RowMapping:
            async with self._store.read() as c:
                found = next((one for one in await _kept(c, place) if one["number"] == number), None)
                if found is None:
                    detail = f"Round {number} of {node} is not kept, or was not asked."
                    raise ProblemError(404, "round-unknown", detail, action="Ask the round first.")
                if wait and not found["answer"]:
                    _need_going_on(await _order(c, place))
            return found

        async def look() -> RowMapping | None:
            found = await row()
            return found if found["answer"] else None

        found = await self._hold((*place, "centre"), wait, look) or await row()
        answer = RoundAnswer.model_validate_json(found["answer"]) if found["answer"] else None
        question = RoundNews.model_validate_json(found["question"])
        return RoundStatus(
            run=run_id, node=node, attempt=attempt, number=number, broadcast=question.broadcast, answer=answer
        )

    async def forget_old(self) -> None:
        async with self._store.write() as c:
            await c.execute(rounds.delete().where(rounds.c.changed_at < time.time() - KEPT))

    # --- who waits -------------------------------------------------------------------------------

    async def _hold(self, place: WaitingPlace, wait: float, look: Callable[[], Awaitable[S | None]]) -> S | None:
        end, event = time.monotonic() + wait, asyncio.Event()
        here = self._waiting.setdefault(place, set())
        try:
            if wait and len(here) >= MAX_WAITS:
                raise ProblemError(
                    429,
                    "too-many-requests",
                    f"{MAX_WAITS} calls of yours wait for this already.",
                    action="Wait for the answers.",
                    retry_after=1,
                )
            here.add(event)
            while True:
                event.clear()
                found = await look()
                left = end - time.monotonic()
                if found is not None or left <= 0:
                    return found
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(event.wait(), min(left, LOOK))
        finally:
            here.discard(event)
            if not here:
                self._waiting.pop(place, None)

    def _wake(self, place: Place) -> None:
        for side in ("node", "centre"):
            for event in self._waiting.get((*place, side), ()):
                event.set()

    async def _tell(self, c: AsyncConnection, run: RowMapping, node: str, number: int, *, done: bool) -> None:
        """Each round is a row among the run's jobs."""
        event = Event(
            seq=2 * number + int(done),
            time=time.time(),
            kind="job",
            rule=KIND,
            job=f"{node}-round-{number}",
            state="done" if done else "running",
            wildcards={"round": str(number)},
        )
        await self._events.tell(c, run, node, f"rounds-{node}"[:63], event)


def _here(place: Place) -> dict[str, str | int]:
    return dict(zip(("run_id", "node", "attempt"), place, strict=True))


async def _lock(c: AsyncConnection, run: str) -> None:
    await c.execute(sa.select(runs.c.id).where(runs.c.id == run).with_for_update())


async def _order(c: AsyncConnection, place: Place) -> RowMapping:
    row = (await c.execute(sa.select(orders).filter_by(**_here(place), kind=KIND))).mappings().first()
    if row is None:
        detail = f"Run {place[0]} has no order {KIND} for {place[1]} in attempt {place[2]}."
        raise ProblemError(404, "order-unknown", detail, action="Put the order first.")
    return row


def _need_going_on(order: RowMapping) -> None:
    if order["state"] in ENDED_ORDER or order["deadline"] <= time.time():
        raise conflict(OrderConflict("order-over", f"The order is {order['state']}: {order['reason']}".strip(" :")))


def _need_held(order: RowMapping, generation: int) -> None:
    _need_going_on(order)
    if order["state"] == "waiting" or order["generation"] != generation:
        raise conflict(OrderConflict("order-fenced", f"The order is at generation {order['generation']}."))


async def _kept(c: AsyncConnection, place: Place) -> list[RowMapping]:
    return list((await c.execute(sa.select(rounds).filter_by(**_here(place)).order_by(rounds.c.number))).mappings())


def _table_of(kept: list[RowMapping]) -> RoundTable:
    if not kept:
        return RoundTable()
    newest, before = kept[-1], kept[-2]["answer_sha256"] if len(kept) > 1 else ""
    return RoundTable(newest["number"], digest_of(newest["question"].encode()), newest["answer_sha256"], before)


def _judged(step: Callable[[], RoundTable]) -> RoundTable:
    try:
        return step()
    except RoundConflict as error:
        raise _refused(error.slug, str(error)) from None


def _refused(slug: str, detail: str) -> ProblemError:
    action = "Look at the round: it is as the answer says."
    return ProblemError(409, "round-conflict", detail, action=action, conflict=slug)
