"""Telling people: by a real SMTP server and a webhook that verifies, once each, until it arrives; to nobody who did not
choose; never to an address of this network, and with nothing of the data.
"""

from __future__ import annotations

import base64
import json
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from email import message_from_bytes
from pathlib import Path
from typing import Any, cast

import pytest
import sqlalchemy as sa
from aiosmtpd.controller import Controller
from fastapi import FastAPI, Request, Response

from gdi.contracts.notices import NoticeChoice, NoticeKind
from gdi.kit.problem import ProblemError
from gdi.kit.secret_files import write_private
from gdi.oauth.client import OAuthClient
from tests.support.operators_world import Served
from token_broker.audit import Audit
from token_broker.db.store import BrokerDatabase, grants, notices, orders, runs, schedules
from token_broker.notices.choices import NoticeChoices
from token_broker.notices.mail import Mailer
from token_broker.notices.outbox import GIVE_UP, KEEP, MAX_WAITING, Outbox
from token_broker.notices.webhook import NotDelivered, check_url, post, signature
from token_broker.settings import Settings
from token_broker.tokens.vault import Vault, VaultRecord

ALICE = "alice@lifescience-ri.eu"


@dataclass
class Inbox:
    """What a real SMTP server took; `refusal`: what it says in place of taking it."""

    refusal: str = ""
    mail: list[tuple[list[str], Any]] = field(default_factory=list)

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:
        if self.refusal:
            return self.refusal
        self.mail.append((envelope.rcpt_tos, message_from_bytes(envelope.content)))
        return "250 OK"


class MailServer(Controller):
    """On a port of the system's choice: the library asks at the port that it was given."""

    def _trigger_server(self) -> None:
        assert self.server is not None
        self.port = self.server.sockets[0].getsockname()[1]
        super()._trigger_server()


class FakeVault:
    def __init__(self) -> None:
        self.records: dict[str, dict[str, Any]] = {}

    async def read(self, path: str) -> VaultRecord:
        return VaultRecord(self.records.get(path), int(path in self.records))

    async def write(self, path: str, data: dict[str, Any], *, cas: int) -> int:
        assert cas == int(path in self.records)
        self.records[path] = data
        return 1


class Provider:
    def __init__(self) -> None:
        self.userinfo_answer: dict[str, Any] = {"sub": ALICE, "email": "alice@example.org"}

    async def userinfo(self, token: str) -> dict[str, Any]:
        return {**self.userinfo_answer, "token": token}


@dataclass
class Hook:
    """A program that verifies as standard-webhooks says."""

    key: bytes = b""
    status: int = 200
    calls: list[dict[str, Any]] = field(default_factory=list)

    def app(self) -> FastAPI:
        app = FastAPI()

        @app.post("/hook")
        async def hook(request: Request) -> Response:
            body = await request.body()
            h = request.headers
            expected = signature(self.key, h["webhook-id"], int(h["webhook-timestamp"]), body)
            if h["webhook-signature"] != expected:
                return Response(status_code=401)
            self.calls.append({"id": h["webhook-id"], **json.loads(body)})
            return Response(status_code=self.status, headers={"Location": "http://127.0.0.1:9/"})

        return app


@dataclass
class NoticeWorld:
    store: BrokerDatabase
    choices: NoticeChoices
    outbox: Outbox
    inbox: Inbox
    hook: Hook
    provider: Provider
    url: str

    async def choose(self, *kinds: NoticeKind, email: bool = True, webhook: bool = False) -> None:
        choice = NoticeChoice(kinds=list(kinds), email=email, webhook=self.url if webhook else None)
        made = await self.choices.put(ALICE, "token", choice)
        if made.secret:
            self.hook.key = base64.b64decode(made.secret.removeprefix("whsec_"))

    async def run(self, number: int, outcome: str, owner: str = ALICE, state: str = "closed") -> str:
        run = f"r-{number:020x}"
        values = {
            "id": run,
            "dag_id": "allele-frequency",
            "dag_run_id": f"manual__{number}",
            "attempt": 1,
            "state": state,
            "outcome": outcome,
            "workflow": "allele-frequency",
            "digest": "sha256:" + "0" * 64,
            "owner": owner,
            "grant_id": "g-" + "0" * 32,
            "parameters_hash": "0" * 64,
            "datasets": ["EGAD00000000001"],
            "plan": [],
            "opened_at": time.time(),
            "closed_at": time.time() if state == "closed" else None,
        }
        async with self.store.write() as c:
            await c.execute(runs.insert().values(**values))
        return run

    async def order(self, run: str, node: str, detail: str, state: str = "running", attempt: int = 1) -> None:
        """A release order, as a node's agent last told of it."""
        key = {"run_id": run, "node": node, "kind": "release", "attempt": attempt, "state": state, "detail": detail}
        values = {name: "" for name in ("body", "nonce", "cancelling", "reason", "token")}
        numbers = dict.fromkeys(("deadline", "generation", "lease_until", "news", "changes", "changed_at"), 0)
        async with self.store.write() as c:
            await c.execute(orders.insert().values(**key, **values, **numbers, names=[], released=[]))

    async def tell(self) -> None:
        await self.outbox.collect()
        await self.outbox.send()

    async def again(self) -> None:
        """Waiting notices are due now."""
        async with self.store.write() as c:
            await c.execute(notices.update().values(next_at=0))
        await self.outbox.send()

    async def states(self) -> list[str]:
        async with self.store.read() as c:
            query = sa.select(notices.c.state).where(notices.c.state != "dropped").order_by(notices.c.made_at)
            return list((await c.execute(query)).scalars())


@pytest.fixture(scope="module")
def smtp() -> Iterator[Controller]:
    controller = MailServer(Inbox(), hostname="127.0.0.1", port=0)
    controller.start()
    yield controller
    controller.stop()


@pytest.fixture
async def world(store: BrokerDatabase, smtp: Controller) -> AsyncIterator[NoticeWorld]:
    hook, provider = Hook(), Provider()
    served = Served(hook.app())
    inbox = cast(Inbox, smtp.handler)
    inbox.mail.clear()
    inbox.refusal = ""
    vault, oidc = cast(Vault, FakeVault()), cast(OAuthClient, provider)
    choices = NoticeChoices(store, vault, oidc, Audit(store), mail=True, private=True)
    mailer = Mailer("127.0.0.1", smtp.port, "gdi@example.org", "none")
    outbox = Outbox(store, choices, mailer, "https://portal.example.org", private=True)
    yield NoticeWorld(store, choices, outbox, inbox, hook, provider, f"{served.url}/hook")
    served.stop()


async def test_a_run_is_told_once_by_each_way_and_only_to_who_chose(world: NoticeWorld) -> None:
    await world.run(1, "success")  # before anybody chose
    await world.choose("run-succeeded", webhook=True)
    run = await world.run(2, "success")
    await world.run(3, "failed")  # not chosen
    await world.run(4, "success", owner="bob@lifescience-ri.eu")
    for _ in range(3):
        await world.tell()
    ((recipients, mail),) = world.inbox.mail
    assert recipients == ["alice@example.org"] and mail["Auto-Submitted"] == "auto-generated"
    text = mail.get_payload()
    assert f"https://portal.example.org/runs/{run}" in text and "EGAD" not in text and ALICE not in text
    (call,) = world.hook.calls
    assert call["type"] == "run-succeeded" and call["data"]["run"] == run and "EGAD" not in json.dumps(call)
    assert await world.states() == ["sent", "sent"]
    await world.run(5, "failed")
    await world.choose()  # nothing any more
    await world.tell()
    assert len(world.inbox.mail) == 1 and len(world.hook.calls) == 1


async def test_a_run_that_waits_for_a_person_is_told_of_once(world: NoticeWorld) -> None:
    known = await world.run(1, "", state="open")
    await world.order(known, "node-a", "awaiting-review: counts")
    await world.choose("run-waits")
    waits, works, over, older = [await world.run(n, "", state="open") for n in range(2, 6)]
    ended, strange = await world.run(6, "failed"), await world.run(7, "", "bob@lifescience-ri.eu", "open")
    for node in ("node-a", "node-b"):
        await world.order(waits, node, "awaiting-review: counts")
    await world.order(works, "node-a", "checking")
    await world.order(over, "node-a", "awaiting-review: counts", "succeeded")
    await world.order(older, "node-a", "awaiting-review: counts", attempt=2)  # not the run's attempt of now
    for run in (ended, strange):
        await world.order(run, "node-a", "awaiting-review: counts")
    for _ in range(2):
        await world.tell()
    ((_, mail),) = world.inbox.mail
    text = mail.get_payload()
    assert mail["Subject"] == "GDI: Your run waits for a person" and f"/runs/{waits}" in text and "node-" not in text


async def test_it_is_tried_until_it_arrives_or_a_day_has_passed(world: NoticeWorld) -> None:
    await world.choose("run-failed", webhook=True)
    world.inbox.refusal, world.hook.status = "451 try later", 503
    await world.run(1, "failed")
    await world.tell()
    assert await world.states() == ["waiting", "waiting"] and not world.inbox.mail
    assert "503" in (problem := (await world.choices.get(ALICE)).problem) or "mail server" in problem
    await world.outbox.send()  # not yet due again: nobody is asked
    assert len(world.hook.calls) == 1
    world.inbox.refusal, world.hook.status = "", 302  # a redirect is followed to nowhere
    await world.again()
    assert sorted(await world.states()) == ["sent", "waiting"] and len(world.hook.calls) == 2
    async with world.store.write() as c:
        await c.execute(notices.update().values(made_at=time.time() - GIVE_UP - 1))
    await world.again()
    assert sorted(await world.states()) == ["failed", "sent"]
    assert world.hook.calls[0]["id"] == world.hook.calls[-1]["id"]


async def test_two_replicas_and_a_flood_send_no_more_than_there_is(world: NoticeWorld) -> None:
    await world.choose("run-failed")
    for number in range(1, 6):
        await world.run(number, "failed")
    other = Outbox(world.store, world.choices, world.outbox._mailer, None, private=True)
    for one in (world.outbox, other, world.outbox):
        await one.collect()
    claimed = await world.outbox._claimed() + await other._claimed()
    assert len(claimed) == len(set(claimed)) == 5
    async with world.store.write() as c:
        row = {"kind": "run-failed", "workflow": "", "way": "mail", "state": "waiting", "tries": 0}
        times = {"made_at": time.time(), "next_at": time.time() + 900}
        many = [{"id": f"x{i}", "owner": ALICE, "subject": f"r-{i}", **row, **times} for i in range(MAX_WAITING)]
        await c.execute(notices.insert(), many)
    await world.run(900, "failed")
    assert await world.outbox.collect() == 0


async def test_consents_and_schedules_are_told_from_the_choice_on(world: NoticeWorld) -> None:
    day = 86400.0

    async def grant(name: str, state: str, ends: float) -> str:
        values = {"id": f"g-{name * 32}"[:34], "owner": ALICE, "workflows": [], "datasets": [], "mode": "standing"}
        times = {"created_at": time.time() - 30 * day, "expires_at": time.time() + ends, "refresh_due": 0.0}
        async with world.store.write() as c:
            await c.execute(grants.insert().values(**values, **times, state=state))
        return str(values["id"])

    await grant("a", "dead", day)  # known before
    await world.choose("consent-ends", "consent-ended", "schedule-stopped", email=False, webhook=True)
    soon, dead, far = (
        await grant("b", "active", day),
        await grant("c", "dead", day),
        await grant("d", "active", 90 * day),
    )
    async with world.store.write() as c:
        values = {"workflow": "allele-frequency", "parameters": {}, "cron": "0 0 * * *", "timezone": "UTC"}
        rest = {"catch_up": "none", "state": "stopped", "reason": "failed three times"}
        await c.execute(schedules.insert().values(grant_id=far, **values, **rest))
    await world.tell()
    assert sorted(call["type"] for call in world.hook.calls) == ["consent-ended", "consent-ends", "schedule-stopped"]
    assert all("run" not in call["data"] for call in world.hook.calls) and soon != dead
    async with world.store.write() as c:
        await c.execute(notices.update().values(made_at=time.time() - KEEP - 1))
    await world.outbox.forget_old()  # a month later all of it still is as it was
    await world.tell()
    assert len(world.hook.calls) == 3


async def test_an_address_is_the_providers_own_and_proven(world: NoticeWorld) -> None:
    for wrong in (
        {"sub": ALICE},
        {"sub": "bob@lifescience-ri.eu", "email": "bob@example.org"},
        {"sub": ALICE, "email": "alice@example.org", "email_verified": False},
        {"sub": ALICE, "email": "alice@example.org", "email_verified": "false"},
        {"sub": ALICE, "email": "alice@example.org\r\nBcc: everybody@example.org"},
        {"sub": ALICE, "email": ["alice@example.org"]},
    ):
        world.provider.userinfo_answer = wrong
        with pytest.raises(ProblemError, match="e-mail address"):
            await world.choose("run-failed")
    assert (await world.choices.get(ALICE)).choice == NoticeChoice()


@pytest.mark.parametrize(
    "url",
    [
        "http://hook.example.org/",
        "https://127.0.0.1/",
        "https://[::1]/",
        "https://[::ffff:10.0.0.1]/",
        "https://[64:ff9b::a9fe:a9fe]/",  # 169.254.169.254, by NAT64
        "https://[64:ff9b:1::7f00:1]/",
        "https://[2002:7f00:1::]/",
        "https://[::127.0.0.1]/",
        "https://[fec0::1]/",
        "https://10.1.2.3:8443/x",
        "https://169.254.169.254/latest/meta-data",
        "https://localhost/",
        "https://0/",
        "https://224.0.0.1/",
        "https://host.invalid/",
        "https://[::1/",
        "https://hook.example\x00/",
        "https://hook.example.org/\x00",
    ],
)
async def test_the_broker_calls_nothing_of_its_own_network(url: str) -> None:
    with pytest.raises(ProblemError):
        await check_url(url, private=False)
    with pytest.raises(NotDelivered):
        await post(url, b"k", "n-1", 1, b"{}", private=False)


async def test_a_public_address_is_called_also_by_nat64() -> None:
    for address in ("192.0.46.8", "2001:500:88:200::8", "64:ff9b::c000:2e08"):
        host = f"[{address}]" if ":" in address else address
        assert await check_url(f"https://{host}/", private=False) == address


def test_the_signature_is_the_standards() -> None:
    """The published example of standard-webhooks' libraries."""
    key = base64.b64decode("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    body = b'{"test": 2432232314}'
    made = signature(key, "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, body)
    assert made == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def test_mail_without_tls_is_for_this_machine_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    secret = write_private(tmp_path / "client", "s" * 40)
    given = {"PUBLIC_URL": "https://b.example", "VAULT_ADDR": "https://v.example", "OIDC_ISSUER": "https://i.example"}
    given |= {"CLIENT_ID": "b", "CLIENT_SECRET_FILE": str(secret), "ENROLMENT_FILE": "e", "DATABASE_URL": "sqlite://"}
    for name, value in given.items():
        monkeypatch.setenv(f"TOKEN_BROKER_{name}", value)
    monkeypatch.setenv("TOKEN_BROKER_SMTP_HOST", "mail.example.org")
    assert (mailer := Settings().mailer()) is not None and mailer.tls == "starttls"  # type: ignore[call-arg]
    monkeypatch.setenv("TOKEN_BROKER_SMTP_TLS", "none")
    with pytest.raises(ValueError, match="this machine only"):
        Settings()  # type: ignore[call-arg]
