"""What is due to be told, found in the broker's own tables, and sent until it arrives or a day has passed.

A notice is a row with a key of its own (owner, kind, subject, way): it is made once, whichever replica finds it and
however often; a crash between sending and noting sends it twice with the same id, which a webhook can tell.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

import sqlalchemy as sa
from sqlalchemy import RowMapping

from gdi.contracts.notices import NoticeBody, NoticeKind
from token_broker.db.store import BrokerDatabase, grants, notice_choices, notices
from token_broker.notices.choices import NoticeChoices
from token_broker.notices.due import BATCH, DAY, due, is_due, make
from token_broker.notices.mail import Mailer
from token_broker.notices.webhook import NotDelivered, post
from token_broker.tokens.vault import VaultUnavailable

log = logging.getLogger(__name__)
GIVE_UP = DAY
FIRST_PAUSE, LONGEST_PAUSE = 15.0, 3600.0  # seconds between tries; doubled each time
LEASE = 60.0  # for which a replica has a notice to itself
OF_ONE = 5  # notices of one person in a batch
MAILS = ThreadPoolExecutor(4, thread_name_prefix="mail")  # a server that hangs holds these, not the broker's own
KEEP = 30 * DAY
MAX_WAITING = 200  # notices of one person that wait; more are not made
SENTENCES: dict[NoticeKind, str] = {
    "run-succeeded": "Your run has its answer.",
    "run-failed": "Your run has ended without an answer. Its page says why.",
    "run-waits": "Your run waits for a person. Someone at a node looks at what would leave; you have nothing to do.",
    "start-refused": "A start was refused, because you have no access to one of its datasets now.",
    "consent-ends": "A consent of yours ends within a week. What it allows, schedules too, ends with it.",
    "consent-ended": "A consent of yours does not serve any more: the identity provider ended it. Give it again.",
    "schedule-stopped": "A schedule of yours was stopped. Your consents say why.",
}


class Outbox:
    def __init__(
        self,
        store: BrokerDatabase,
        choices: NoticeChoices,
        mailer: Mailer | None,
        portal_url: str | None,
        *,
        private: bool,
    ) -> None:
        self._store, self._choices, self._mailer = store, choices, mailer
        self._portal, self._private = (portal_url or "").rstrip("/"), private

    async def collect(self) -> int:
        """Makes rows for what happened since each person chose. How many."""
        made = 0
        async with self._store.read() as c:
            chosen = list((await c.execute(sa.select(notice_choices).where(is_due()))).mappings())
        for choice in chosen:
            ways = [w for w, on in (("mail", choice["address"] and self._mailer), ("webhook", choice["webhook"])) if on]
            if not ways or not choice["kinds"]:
                continue
            async with self._store.read() as c:
                waiting = sa.select(sa.func.count()).where(
                    notices.c.owner == choice["owner"], notices.c.state == "waiting"
                )
                if (await c.execute(waiting)).scalar_one() >= MAX_WAITING:
                    continue
                found = await due(c, choice["owner"], choice["kinds"], since=choice["changed_at"])
            if found:
                async with self._store.write() as c:
                    made += sum([await make(c, choice["owner"], *one, way) for one in found for way in ways])
        return made

    async def send(self) -> None:
        """One try of each notice that is due. Nobody waits for another person's webhook."""
        by_owner: dict[str, list[str]] = defaultdict(list)
        for owner, number in await self._claimed():
            by_owner[owner].append(number)
        ended = await asyncio.gather(*map(self._try_all, by_owner.values()), return_exceptions=True)
        for error in ended:
            if error is not None:
                raise error

    async def _try_all(self, numbers: list[str]) -> None:
        """One after the other; what is not begun in time is due again when its lease ends."""
        began = time.monotonic()
        for number in numbers:
            if time.monotonic() - began < LEASE / 3:
                await self._try(number)

    async def forget_old(self) -> None:
        """A consent's notices stay as long as the consent: what it is told of lasts, and would be told again."""
        gone = notices.c.subject.not_in(sa.select(grants.c.id))
        async with self._store.write() as c:
            await c.execute(notices.delete().where(notices.c.made_at < time.time() - KEEP, gone))

    async def _claimed(self) -> list[tuple[str, str]]:
        """(owner, id); of each person's no more than `OF_ONE`."""
        now = time.time()
        place = sa.func.row_number().over(partition_by=notices.c.owner, order_by=notices.c.next_at).label("place")
        due_now = (notices.c.state == "waiting", notices.c.next_at <= now)
        placed = sa.select(notices.c.owner, notices.c.id, notices.c.next_at, place).where(*due_now).subquery()
        first = sa.select(placed.c.owner, placed.c.id).where(placed.c.place <= OF_ONE).order_by(placed.c.next_at)
        async with self._store.write() as c:
            mine: list[tuple[str, str]] = []
            for owner, number in list(await c.execute(first.limit(BATCH))):
                still = sa.and_(notices.c.id == number, notices.c.state == "waiting", notices.c.next_at <= now)
                taken = await c.execute(notices.update().where(still).values(next_at=now + LEASE))
                mine += [(owner, number)] * taken.rowcount
        return mine

    async def _try(self, number: str) -> None:
        async with self._store.read() as c:
            row = (await c.execute(sa.select(notices).where(notices.c.id == number))).mappings().one()
            mine = sa.select(notice_choices).where(notice_choices.c.owner == row["owner"])
            choice = (await c.execute(mine)).mappings().one_or_none()
        if choice is None or row["kind"] not in choice["kinds"]:
            await self._note(row, "dropped", "")  # not wanted any more
            return
        try:
            await self._deliver(row, choice)
        except NotDelivered as error:
            over = error.forever or time.time() - row["made_at"] > GIVE_UP
            await self._note(row, "failed" if over else "waiting", str(error))
        except VaultUnavailable:
            await self._note(row, "waiting", "The broker's vault is away.")
        else:
            await self._note(row, "sent", "")

    async def _deliver(self, row: RowMapping, choice: RowMapping) -> None:
        body = self._body(row)
        if row["way"] == "mail":
            if self._mailer is None or not choice["address"]:
                raise NotDelivered("No mail is wanted, or can be sent, any more.", forever=True)
            subject = f"GDI: {body.data.sentence.partition('.')[0]}"
            text = "\n".join(
                x for x in (body.data.sentence, _about(row), body.data.url, "", self._footer()) if x or x == ""
            )
            loop = asyncio.get_running_loop()
            await loop.run_in_executor(MAILS, self._mailer.send, choice["address"], subject, text, row["id"])
            return
        key = await self._choices.secret(row["owner"])
        if key is None or not choice["webhook"]:
            raise NotDelivered("There is no webhook any more.", forever=True)
        payload = body.model_dump_json(exclude_none=True).encode()
        await post(choice["webhook"], key, row["id"], int(time.time()), payload, private=self._private)

    def _body(self, row: RowMapping) -> NoticeBody:
        run = row["subject"] if row["subject"].startswith("r-") else None
        page = f"/runs/{run}" if run else "/consents"
        return NoticeBody(
            type=row["kind"],
            timestamp=datetime.fromtimestamp(row["made_at"], UTC).isoformat(),
            data=NoticeBody.Subject(
                run=run,
                workflow=row["workflow"] or None,
                sentence=SENTENCES[row["kind"]],
                url=self._portal + page if self._portal else "",
            ),
        )

    def _footer(self) -> str:
        where = f" at {self._portal}/notices" if self._portal else ""
        return f"You asked to be told of this{where}; you can change it there."

    async def _note(self, row: RowMapping, state: str, problem: str) -> None:
        pause = min(LONGEST_PAUSE, FIRST_PAUSE * 2 ** min(row["tries"], 16))
        values = {"state": state, "tries": row["tries"] + 1, "next_at": time.time() + pause}
        async with self._store.write() as c:
            await c.execute(notices.update().where(notices.c.id == row["id"]).values(**values))
            mine = notice_choices.c.owner == row["owner"]
            await c.execute(notice_choices.update().where(mine).values(problem=problem[:500]))
        if state == "failed":
            log.warning("notice %s was given up: %s", row["id"], problem)


def _about(row: RowMapping) -> str:
    return f"Workflow {row['workflow']}." if row["workflow"] else ""
