"""Preflight: all nodes are asked at once whether a run would be admitted there now. The nodes judge; the broker brings
the question, with the visas of the user who asks, and waits a bounded time.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Callable

import sqlalchemy as sa

from gdi.contracts.nodes import (
    MAX_PREFLIGHTS_PER_HOUR,
    PREFLIGHT_WITHIN,
    NodePreflight,
    NodeStatus,
    PreflightAnswer,
    PreflightReply,
    PreflightRequest,
)
from gdi.contracts.orders import QuestionClaims
from gdi.kit.jose import SigningKey
from gdi.kit.problem import ProblemError
from gdi.kit.rate_limit import Rate, RateLimit
from gdi.oauth.client import OAuthClient
from gdi.oauth.errors import OAuthDenied, OAuthUnavailable
from gdi.visas.visas import Passport, Visa, Visas
from token_broker.audit import Audit
from token_broker.db.store import BrokerDatabase, preflights
from token_broker.enrolment import EnrolmentFile
from token_broker.grants.parameters import expect_cohort
from token_broker.orders.nodes import KnownNodes
from token_broker.orders.orders import next_news
from token_broker.orders.workflows import WorkflowFiles
from token_broker.tokens.token_refresher import provider_away

MARGIN = 1.5  # seconds of the ten that are the broker's own
LOOK = 0.2
KEPT = 3600.0


class Preflights:
    def __init__(
        self,
        store: BrokerDatabase,
        key: SigningKey,
        public_url: str,
        oidc: OAuthClient,
        visas: Visas,
        enrolment: EnrolmentFile,
        workflows: WorkflowFiles,
        known: KnownNodes,
        audit: Audit,
        on_news: Callable[[str], None],
    ) -> None:
        self._store, self._key, self._public_url = store, key, public_url
        self._oidc, self._visas, self._enrolment = oidc, visas, enrolment
        self._workflows, self._nodes, self._audit, self._on_news = workflows, known, audit, on_news
        self._limit, self._rate = RateLimit(), Rate(MAX_PREFLIGHTS_PER_HOUR / 60, MAX_PREFLIGHTS_PER_HOUR)

    async def ask(self, user: str, access_token: str, request: PreflightRequest) -> PreflightAnswer:
        """Each node's answer, or that it did not come in time. 429 after 30 an hour; 404 `workflow-unknown`."""
        began = time.monotonic()
        expect_cohort(request.parameters, list(request.datasets))
        self._limit.take("preflights of this user", user, self._rate)
        digest = request.digest or await self._workflows.newest(request.workflow)
        passport = await self._passport(user, access_token)
        statuses = {status.node: status for status in await self._nodes.all()}
        by_node, refusals = self._split(request, passport)
        able = [n for n in by_node if statuses[n].placement == "node" and statuses[n].life == "up"]
        id_ = secrets.token_hex(16)
        await self._put(id_, user, able, by_node, passport, request, digest)
        await self._audit.record("broker", "preflight", owner=user, reason=f"{request.workflow}, {len(able)} nodes")
        replies = await self._wait(id_, len(able), began + PREFLIGHT_WITHIN - MARGIN)
        answers = [_answer(node, datasets, statuses[node], replies.get(node)) for node, datasets in by_node.items()]
        return PreflightAnswer(nodes=sorted(answers, key=lambda a: a.node), refusals=refusals)

    async def reply(self, id_: str, node: str, reply: PreflightReply) -> None:
        """A node's own answer; the first counts. 404 where it was not asked."""
        async with self._store.write() as c:
            here = sa.and_(preflights.c.id == id_, preflights.c.node == node)
            if (await c.execute(sa.select(preflights.c.id).where(here))).first() is None:
                raise ProblemError(404, "preflight-unknown", "This node was not asked that.", action="Ask for work.")
            unanswered = sa.and_(here, preflights.c.reply.is_(None))
            values = {"reply": reply.model_dump(mode="json"), "question": ""}
            await c.execute(preflights.update().where(unanswered).values(**values))

    async def forget_old(self) -> None:
        async with self._store.write() as c:
            await c.execute(preflights.delete().where(preflights.c.asked_at < time.time() - KEPT))

    async def _passport(self, user: str, access_token: str) -> Passport:
        try:
            userinfo = await self._oidc.userinfo(access_token)
        except OAuthDenied as error:
            raise ProblemError(502, "userinfo-refused", str(error), action="Sign in again.") from None
        except OAuthUnavailable as error:
            raise provider_away(error) from None
        if userinfo.get("sub") != user:
            raise ProblemError(403, "forbidden", "The token is another user's.", action="Send your own.")
        return await self._visas.passport(userinfo, user)

    def _split(
        self, request: PreflightRequest, passport: Passport
    ) -> tuple[dict[str, list[str]], list[dict[str, object]]]:
        by_id: dict[str, list[str]] = {}
        refusals: list[dict[str, object]] = []
        for dataset in dict.fromkeys(request.datasets):
            node, found = self._enrolment.current.node_of(dataset), passport.access(dataset)
            if node is None or not isinstance(found, Visa):
                reason = "unknown-dataset" if node is None else found
                refusals.append({"dataset": dataset, "node": node.id if node else None, "reason": str(reason)})
            else:
                by_id.setdefault(node.id, []).append(dataset)
        return by_id, refusals

    async def _put(
        self,
        id_: str,
        user: str,
        able: list[str],
        by_node: dict[str, list[str]],
        passport: Passport,
        request: PreflightRequest,
        digest: str,
    ) -> None:
        async with self._store.write() as c:
            for node in able:
                claims = QuestionClaims(
                    jti=secrets.token_hex(16),
                    sub=user,
                    node=node,
                    workflow=request.workflow,
                    digest=digest,
                    parameters=request.parameters,
                    datasets=by_node[node],
                    visas=passport.tokens_for(by_node[node]),
                    approvals=request.approvals or [],
                )
                question = claims.sign(self._key, issuer=self._public_url, lifetime=PREFLIGHT_WITHIN + 5)
                row = {"id": id_, "node": node, "owner": user, "question": question, "asked_at": time.time()}
                await c.execute(preflights.insert().values(**row, news=await next_news(c, node)))
        for node in able:
            self._on_news(node)

    async def _wait(self, id_: str, expected: int, until: float) -> dict[str, PreflightReply]:
        query = sa.select(preflights.c.node, preflights.c.reply).where(
            preflights.c.id == id_, preflights.c.reply.is_not(None)
        )
        while True:
            async with self._store.read() as c:
                found = {r.node: PreflightReply.model_validate(r.reply) for r in await c.execute(query)}
            if len(found) >= expected or time.monotonic() > until:
                return found
            await asyncio.sleep(LOOK)


def _answer(node: str, datasets: list[str], status: NodeStatus, reply: PreflightReply | None) -> NodePreflight:
    seen = {"node": node, "datasets": datasets, "life": status.life, "seen_at": status.seen_at}
    if reply is not None:
        return NodePreflight.model_validate({**seen, "placement": status.placement, **reply.model_dump()})
    if status.placement == "coordinator":
        detail = "The coordinator starts its Snakemake; its gateway judges each task."
    elif status.life == "up":
        detail = "It did not answer in time."
    else:
        detail = "It was never seen." if status.seen_at is None else "It is away."
    return NodePreflight.model_validate({**seen, "placement": status.placement, "detail": detail})
