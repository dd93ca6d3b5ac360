"""What a node's agent asks for: its orders and questions with news, held back until there are some."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import time

import sqlalchemy as sa
from pydantic import ValidationError

from gdi.contracts.orders import Work, WorkItem, WorkQuestion
from token_broker.db.store import BrokerDatabase, nodes, orders, preflights
from token_broker.runs.order_rows import GOING_ON, as_status

log = logging.getLogger(__name__)
LOOK = 0.5  # seconds between two looks for all agents that wait: another replica may have made the news
PAGE = 50
MAX_CHARACTERS = 8 * 1024 * 1024  # of an answer's orders
SHORTEST = 0.6  # of the wait that was asked for: agents that began at once do not ask again at once
ANSWERED_FOR = 15.0  # seconds for which a question is worth an answer


class WorkBoard:
    """One look at the database for all agents that wait at this replica."""

    def __init__(self, store: BrokerDatabase) -> None:
        self._store = store
        self._waiting: dict[str, set[asyncio.Event]] = {}
        self._looker: asyncio.Task[None] | None = None
        self._seen: dict[str, int] = {}

    def news(self, node: str) -> None:
        """Wakes the node's agents at this replica."""
        for event in self._waiting.get(node, ()):
            event.set()

    async def work(self, node: str, after: int, wait: float) -> Work:
        """What there is since `after`, at once or within `wait` seconds; else nothing."""
        end = time.monotonic() + wait * random.uniform(SHORTEST, 1)  # noqa: S311  # no secret
        while True:
            event = asyncio.Event()
            self._waiting.setdefault(node, set()).add(event)
            try:
                found = await self._page(node, after)
                left = end - time.monotonic()
                if found.items or found.questions or left <= 0:
                    return found
                if self._looker is None or self._looker.done():
                    self._looker = asyncio.create_task(self._look())
                try:
                    await asyncio.wait_for(event.wait(), left)
                except TimeoutError:
                    return found  # what is new would have woken it
            finally:
                self._waiting[node].discard(event)
                if not self._waiting[node]:
                    del self._waiting[node]

    async def _look(self) -> None:
        """Until nobody waits. A look that fails is made again: who waits asks anew in any case."""
        while self._waiting:
            with contextlib.suppress(Exception):
                async with self._store.read() as c:
                    now = {r.node: r.news for r in await c.execute(sa.select(nodes.c.node, nodes.c.news))}
                for node, number in now.items():
                    if number != self._seen.get(node):
                        self.news(node)
                self._seen = now
            await asyncio.sleep(LOOK)

    async def _page(self, node: str, after: int) -> Work:
        query = sa.select(orders).where(
            orders.c.node == node, orders.c.news > after, orders.c.state.in_(GOING_ON), orders.c.token != ""
        )
        fresh = time.time() - ANSWERED_FOR
        unanswered = sa.select(preflights).where(
            preflights.c.node == node,
            preflights.c.news > after,
            preflights.c.reply.is_(None),
            preflights.c.asked_at > fresh,
        )
        async with self._store.read() as c:
            rows = (await c.execute(query.order_by(orders.c.news).limit(PAGE))).mappings().all()
            questions = (await c.execute(unanswered.order_by(preflights.c.news).limit(PAGE))).mappings().all()
        room, last = MAX_CHARACTERS, after
        work = Work(next_after=after)
        both = sorted([*rows, *questions], key=lambda row: int(row["news"]))
        for row in both[:PAGE]:
            text = row["token"] if "token" in row else row["question"]
            room -= len(text)
            if room < 0 and last > after:
                break
            last = row["news"]
            try:
                if "token" in row:
                    work.items.append(WorkItem(status=as_status(row), order=text))
                else:
                    work.questions.append(WorkQuestion(id=row["id"], question=text))
            except ValidationError as error:  # one that cannot be told keeps no other back
                log.error(
                    "node %s: what is asked of it at %s cannot be sent: %s", node, last, error.errors()[0]["type"]
                )
        return work.model_copy(update={"next_after": last})

    async def stop(self) -> None:
        if self._looker is not None:
            self._looker.cancel()
            await asyncio.gather(self._looker, return_exceptions=True)
