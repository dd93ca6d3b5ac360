"""One person's webhook keeps nobody waiting: neither those who are told something else, nor the broker's own lookups of
Vault, provider and database.
"""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any, cast

import pytest
import sqlalchemy as sa

from gdi.contracts.notices import NoticeChoice
from gdi.kit.problem import ProblemError
from gdi.oauth.client import OAuthClient
from token_broker.audit import Audit
from token_broker.db.store import BrokerDatabase, notice_choices, notices, runs
from token_broker.notices import outbox as rooms
from token_broker.notices import webhook
from token_broker.notices.choices import WEBHOOKS, NoticeChoices
from token_broker.notices.due import BATCH
from token_broker.notices.outbox import OF_ONE, Outbox
from token_broker.notices.webhook import NotDelivered, check_url
from token_broker.tokens.vault import Vault, VaultRecord

SLOW = "https://slow.example/x"


class KeyVault:
    async def read(self, path: str) -> VaultRecord:
        return VaultRecord({"key": "aw=="}, 1)

    async def write(self, path: str, data: dict[str, Any], *, cas: int) -> int:
        return 2


def choices_of(store: BrokerDatabase) -> NoticeChoices:
    vault, oidc = cast(Vault, KeyVault()), cast(OAuthClient, None)
    return NoticeChoices(store, vault, oidc, Audit(store), mail=False, private=True)


@pytest.fixture
def late_names(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """A name server that answers when this is set."""
    over, known = threading.Event(), socket.getaddrinfo

    def found(host: Any, *more: Any, **options: Any) -> Any:
        if host != "slow.example":
            return known(host, *more, **options)
        over.wait(120)
        raise socket.gaierror(-3, "try again")

    monkeypatch.setattr(socket, "getaddrinfo", found)
    yield over
    over.set()


async def test_a_name_server_that_is_late_holds_no_lookup_of_the_brokers(
    late_names: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(webhook, "SECONDS", 120)
    asked = [asyncio.create_task(check_url(SLOW, private=False)) for _ in range(100)]
    await asyncio.sleep(0)  # each of them has begun
    async with asyncio.timeout(60):  # it is not behind those, none of which ends before the next line
        await asyncio.get_running_loop().getaddrinfo("localhost", 80)
    late_names.set()
    told = [error for error in await asyncio.gather(*asked, return_exceptions=True) if isinstance(error, ProblemError)]
    slugs = [error.slug for error in told]
    assert (slugs.count("bad-notice"), slugs.count("too-many-requests")) == (webhook.AT_ONCE, 100 - webhook.AT_ONCE)


async def test_a_person_chooses_so_many_webhooks_a_minute(store: BrokerDatabase) -> None:
    choices = choices_of(store)
    for number in range(int(WEBHOOKS.burst)):
        await choices.put("alice", "token", NoticeChoice(webhook=f"http://127.0.0.1/{number}"))
    with pytest.raises(ProblemError) as refused:
        await choices.put("alice", "token", NoticeChoice(webhook="http://127.0.0.1/x"))
    assert refused.value.slug == "too-many-requests"
    await choices.put("bob", "token", NoticeChoice(webhook="http://127.0.0.1/x"))
    await choices.put("alice", "token", NoticeChoice())  # to be told nothing is always taken


async def test_a_webhook_that_hangs_keeps_nobody_else_waiting(
    store: BrokerDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    now, told = time.time(), asyncio.Event()
    people = {f"mallory{n}": 40 for n in range(3)} | {"alice": 1}
    async with store.write() as c:
        for owner, count in people.items():
            chosen = {"owner": owner, "kinds": ["run-failed"], "webhook": f"http://{owner}.example/", "address": ""}
            await c.execute(notice_choices.insert().values(**chosen, problem="", changed_at=now))
            row = {"owner": owner, "kind": "run-failed", "workflow": "", "way": "webhook", "state": "waiting"}
            rows = [
                {
                    **row,
                    "id": f"{owner}-{n}",
                    "subject": f"r-{n:020x}",
                    "made_at": now,
                    "next_at": now - count,
                    "tries": 0,
                }
                for n in range(count)
            ]
            await c.execute(notices.insert(), rows)

    async def post(url: str, *_: Any, **__: Any) -> None:
        if "mallory" in url:
            await told.wait()
            raise NotDelivered("The webhook does not answer.")
        told.set()

    monkeypatch.setattr(rooms, "post", post)
    async with asyncio.timeout(60):  # those that hang do so until alice is told
        await Outbox(store, choices_of(store), None, None, private=True).send()
    async with store.read() as c:
        tried = sa.select(notices.c.owner, sa.func.count()).where(notices.c.tries > 0).group_by(notices.c.owner)
        assert dict((await c.execute(tried)).tuples().all()) == dict.fromkeys(people, OF_ONE) | {"alice": 1}


async def chosen(store: BrokerDatabase, *people: str) -> None:
    values = {"kinds": ["run-failed"], "webhook": "http://x.example/", "address": "", "problem": "", "changed_at": 1.0}
    async with store.write() as c:
        await c.execute(notice_choices.insert(), [{"owner": owner, **values} for owner in people])


async def failed_runs(store: BrokerDatabase, owner: str, count: int) -> None:
    names = ("dag_id", "dag_run_id", "workflow", "digest", "grant_id", "parameters_hash")
    values = {**dict.fromkeys(names, "x"), "owner": owner, "attempt": 1, "state": "closed", "outcome": "failed"}
    values |= {"datasets": [], "plan": [], "opened_at": time.time(), "closed_at": time.time()}
    rows = [{**values, "id": f"r-{n:020x}", "dag_run_id": str(n)} for n in range(count)]
    async with store.write() as c:
        await c.execute(runs.insert(), rows)


async def test_more_at_once_than_a_batch_are_all_told(store: BrokerDatabase) -> None:
    await chosen(store, "alice")
    await failed_runs(store, "alice", BATCH + 10)
    outbox = Outbox(store, choices_of(store), None, None, private=True)
    assert [await outbox.collect() for _ in range(3)] == [BATCH, 10, 0]


async def test_people_with_nothing_new_cost_one_question(store: BrokerDatabase) -> None:
    await chosen(store, "alice", *(f"quiet{n}" for n in range(50)))
    await failed_runs(store, "alice", 1)
    outbox = Outbox(store, choices_of(store), None, None, private=True)
    assert await outbox.collect() == 1
    asked = list[str]()
    sa.event.listen(store.engine.sync_engine, "before_cursor_execute", lambda *of: asked.append(of[2]))
    assert await outbox.collect() == 0
    assert len([one for one in asked if one.startswith("SELECT")]) == 1
