"""Who calls: a run token signed by the broker, for this gateway, of a run that is open and not fenced by a later
attempt or workload.
"""

from __future__ import annotations

import hashlib
import math
import time
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa
from fastapi import Request
from pydantic import ValidationError

from gdi.contracts.gateway_api import AGENT_TYPE
from gdi.contracts.run_token import TYPE, RunClaims, Scope
from gdi.kit.database import insert
from gdi.kit.jose import KeysUnavailable, RemoteKeys, SigningKey, TokenError, issuer_of, key_id, verify
from gdi.kit.problem import ProblemError
from gdi.kit.recent import RecentValues
from node_gateway.audit import Audit, AuditEvent
from node_gateway.broker import BrokerConnection
from node_gateway.db import store as db
from node_gateway.node_orders import NodeOrders
from node_gateway.policy import PolicyFile
from node_gateway.stops import NodeStops

MAX_TOKEN = 16 * 1024
MAX_FENCES = 20_000
MAX_PROVEN = 2_000  # tokens whose proof is remembered


@dataclass(frozen=True)
class Caller:
    """A run's workload, proven."""

    user: str
    run: str
    node: str
    attempt: int
    workflow: str
    digest: str
    datasets: frozenset[str]
    scopes: frozenset[str]
    generation: int
    workload: str
    own: bool = False  # by a token of the node's own

    @property
    def actor(self) -> str:
        return f"{self.user} ({self.workload})"


@dataclass
class Fence:
    """The highest attempt and generation seen of a run, and the last attempt that was closed here."""

    attempt: int = 0
    generation: int = 0
    closed: int = 0


@dataclass
class Fences:
    """Kept in memory only where no other gateway can move them."""

    database: db.GatewayDatabase
    _known: dict[str, Fence] = field(default_factory=dict)

    async def of(self, run: str) -> Fence:
        if run not in self._known:
            async with self.database.read() as connection:
                row = (await connection.execute(sa.select(db.fences).where(db.fences.c.run == run))).first()
            if self.database.shared:
                return Fence(row.attempt, row.generation, row.closed_attempt) if row else Fence()
            if len(self._known) > MAX_FENCES:
                self._known.clear()
            self._known.setdefault(run, Fence(row.attempt, row.generation, row.closed_attempt) if row else Fence())
        return self._known[run]

    async def raise_to(self, run: str, *, attempt: int = 0, generation: int = 0, closed: int = 0) -> None:
        """Moves the fence up, in the database first; never down."""
        now = await self.of(run)
        new = Fence(max(now.attempt, attempt), max(now.generation, generation), max(now.closed, closed))
        if new == now:
            return
        values = {"attempt": new.attempt, "generation": new.generation, "closed_attempt": new.closed}
        async with self.database.write() as connection:
            statement = insert(connection, db.fences).values(run=run, **values)
            old, excluded = db.fences.c, statement.excluded
            higher = {n: sa.case((excluded[n] > old[n], excluded[n]), else_=old[n]) for n in values}
            await connection.execute(statement.on_conflict_do_update(index_elements=["run"], set_=higher))
        if self.database.shared:
            return
        known = self._known.get(run, now)  # may have been raised further while we wrote
        self._known[run] = Fence(
            max(known.attempt, new.attempt), max(known.generation, new.generation), max(known.closed, new.closed)
        )


@dataclass(frozen=True, repr=False)
class OwnTokens:
    """For tokens that the node makes for pods of its own: its key, its orders, and whether its policy wants that."""

    key: SigningKey
    orders: NodeOrders
    policy: PolicyFile


@dataclass(frozen=True, repr=False)
class ProvenToken:
    """A run token whose signature and claims were good, by the keys that proved them, until it expires (epoch s).
    Whether its run goes on is asked each time.
    """

    own: bool
    claims: RunClaims
    keys: list[dict[str, Any]]
    kid: str | None
    until: float


class Authenticator:
    """Turns a request into a Caller, or refuses it with an audit entry."""

    def __init__(
        self,
        keys: RemoteKeys,
        broker: BrokerConnection,
        fences: Fences,
        audit: Audit,
        *,
        node: str,
        audience: str,
        issuer: str,
        own: OwnTokens | None = None,
        stops: NodeStops | None = None,
    ) -> None:
        self._keys, self._broker, self.fences, self._audit = keys, broker, fences, audit
        self._node, self._audience, self._issuer, self._own = node, audience, issuer, own
        self._stops = stops
        self._proven = RecentValues[bytes, ProvenToken](math.inf, MAX_PROVEN)  # by the token's SHA-256

    async def caller(self, request: Request, scope: Scope) -> Caller:
        """401 without a good token (get a fresh one); 403 for one that is fenced, closed or lacks `scope`; 503 where
        the broker is away.
        """
        caller: Caller | None = None
        try:
            own, claims = await self._claims(request)
            caller = self._of(claims, own=own)
            await self._admit(caller, scope)
        except ProblemError as error:
            if error.problem.status in (401, 403):
                await self.refuse(f"{request.method} {request.url.path}", error, caller)
            raise
        return caller

    async def expect_agent(self, request: Request) -> None:
        """401 unless the node's own key signed for its own agent."""
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        try:
            if self._own is None or scheme.lower() != "bearer" or not 0 < len(token) <= MAX_TOKEN:
                raise TokenError("there is none")
            keys = [self._own.key.jwk()]
            verify(token.strip(), keys, issuer=self._node, audience=self._audience, typ=AGENT_TYPE)
        except TokenError:
            error = ProblemError(401, "unauthenticated", "This is for the node's own agent.", action="Ask /readyz.")
            await self.refuse(f"{request.method} {request.url.path}", error)
            raise error from None

    async def refuse(
        self, what: str, error: ProblemError, caller: Caller | None = None, *, dataset: str = "", task: str = ""
    ) -> None:
        reason = f"{error.slug}: {error.problem.detail}"
        if caller is None:
            await self._audit.record(AuditEvent("request", False, what=what, reason=reason, dataset=dataset, task=task))
        else:
            entry = AuditEvent(
                "request", False, caller.actor, caller.run, caller.attempt, task, dataset, what, reason, caller.workflow
            )
            await self._audit.record(entry)

    async def _claims(self, request: Request) -> tuple[bool, RunClaims]:
        """Whether the node made the token itself, and what it says."""
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        action = "Get a run token for this gateway from the broker and send it as Authorization: Bearer."
        if scheme.lower() != "bearer" or not token or len(token) > MAX_TOKEN:
            raise ProblemError(401, "unauthenticated", "A run token is needed.", action=action)
        token = token.strip()
        digest = hashlib.sha256(token.encode()).digest()
        kept = self._proven.get(digest)
        own = kept.own if kept is not None else self._own is not None and issuer_of(token) == self._node
        if self._own is not None and not own and self._own.policy.current().placement == "node":
            raise ProblemError(
                403,
                "placement-differs",
                "This node starts Snakemake itself: it takes no run token of the broker's.",
                action="Send an order.",
            )
        try:
            if kept is not None and kept.until > time.time() and await self._still_proves(kept):
                return own, kept.claims
            claims: dict[str, Any]
            kid: str | None = None
            if own and self._own is not None:
                keys = [self._own.key.jwk()]
                claims = verify(token, keys, issuer=self._node, audience=self._audience, typ=TYPE)
            else:
                kid = key_id(token)
                keys = await self._keys.keys(kid=kid)
                claims = verify(token, keys, issuer=self._issuer, audience=self._audience, typ=TYPE)
        except KeysUnavailable:
            raise ProblemError(
                503, "broker-away", "The broker's keys cannot be had.", action="Try again in a few seconds."
            ) from None
        except TokenError as error:
            raise ProblemError(
                401, "invalid-token", f"The run token is not acceptable: {error}.", action=action
            ) from None
        try:
            run_claims = RunClaims.model_validate(claims)
        except ValidationError as error:
            wrong = ", ".join(".".join(str(p) for p in e["loc"]) for e in error.errors()[:5])
            raise ProblemError(
                401, "invalid-token", f"The run token's claims are wrong: {wrong}.", action=action
            ) from None
        self._proven.keep(digest, ProvenToken(own, run_claims, keys, kid, float(claims["exp"])))
        return own, run_claims

    async def _still_proves(self, kept: ProvenToken) -> bool:
        """Whether the very keys that proved it are its issuer's now."""
        return kept.own or kept.keys is await self._keys.keys(kid=kept.kid)

    @staticmethod
    def _of(claims: RunClaims, *, own: bool) -> Caller:
        return Caller(
            user=claims.sub,
            run=claims.run,
            node=claims.node,
            attempt=claims.attempt,
            workflow=claims.workflow,
            digest=claims.digest,
            datasets=frozenset(claims.datasets),
            scopes=frozenset(claims.scope.split()),
            generation=claims.generation,
            workload=claims.wl,
            own=own,
        )

    async def _admit(self, caller: Caller, scope: str) -> None:
        if caller.node != self._node:
            raise ProblemError(
                403,
                "wrong-node",
                f"The run token is for node {caller.node}, this is {self._node}.",
                action="Use that node's gateway.",
            )
        if scope not in caller.scopes:
            raise ProblemError(
                403,
                "missing-scope",
                f"The run token does not carry the scope {scope}.",
                action="Another workload of the run does this.",
            )
        await self._not_fenced(caller, scope)
        if self._stops is not None and scope != "close":  # what was stopped can still be closed
            await self._stops.check(caller.run, caller.user)
        if caller.own:
            await self._ordered(caller, scope)
        elif scope != "close":  # what the broker has closed already must still be closable here
            await self._broker.open_run(caller.run, caller.attempt)
            await self._not_fenced(caller, scope)
        await self.fences.raise_to(
            caller.run, attempt=caller.attempt, generation=caller.generation if "tasks" in caller.scopes else 0
        )

    async def _ordered(self, caller: Caller, scope: str) -> None:
        """The node's own record says whether a pod of its own may go on; its agent may release and close."""
        if scope in ("releases", "close"):
            return
        assert self._own is not None
        if await self._own.orders.analysis(caller.run, caller.attempt) is None:
            raise ProblemError(
                403, "run-closed", f"Run {caller.run} has no order that goes on.", action="Stop: the run is over here."
            )

    async def _not_fenced(self, caller: Caller, scope: str) -> None:
        fence = await self.fences.of(caller.run)
        if caller.attempt < fence.attempt:
            detail = f"Attempt {caller.attempt} of run {caller.run} is over: attempt {fence.attempt} has begun."
            raise ProblemError(403, "stale-attempt", detail, action="Stop: the later attempt goes on.")
        if "tasks" in caller.scopes and caller.generation < fence.generation:
            raise ProblemError(
                403,
                "stale-workload",
                f"{caller.workload} was replaced by a later workload of the run.",
                action="Stop: the later one goes on.",
            )
        if caller.attempt <= fence.closed and scope != "close":
            detail = f"Attempt {caller.attempt} of run {caller.run} was closed here."
            raise ProblemError(403, "run-closed", detail, action="Start a new attempt of the run.")
