"""Pods that the node's agent started: known by the launcher's signature, a registered name and a pinned uid."""

from __future__ import annotations

import hmac
import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from fastapi import Request

from gdi.broker_client.client import AsyncBrokerClient
from gdi.contracts.events import Event, EventBatch
from gdi.contracts.run_token import SNAKEMAKE_SCOPE
from gdi.contracts.tokens import Token, TokenRequest
from gdi.kit.jose import KeysUnavailable, SigningKey, TokenError, verify
from gdi.kit.problem import ProblemError
from node_gateway.agent.public_events import Telling, failed_part, public_events
from node_gateway.audit import Audit, AuditEvent
from node_gateway.broker import away
from node_gateway.node_orders import NodeOrder, NodeOrders
from node_gateway.policy import PolicyFile

AUDIENCE = "token-broker"  # of pods' identity tokens, wherever they are shown
MAX_TOKEN = 16 * 1024
STOP = "Stop: this pod has no part in the run."


@dataclass(frozen=True)
class PodIssuer:
    """Who signs pods' identity tokens: the node's own launcher, by a key set in a file."""

    issuer: str
    jwks_file: Path
    subject: str

    def identify(self, token: str) -> tuple[str, str]:
        """(name, uid). TokenError."""
        try:
            keys = [k for k in json.loads(self.jwks_file.read_text())["keys"] if isinstance(k, dict)]
        except (OSError, ValueError, KeyError, TypeError):
            raise KeysUnavailable("the launcher's key set cannot be read") from None
        claims = verify(token, keys, issuer=self.issuer, audience=AUDIENCE)
        bound: Any = claims.get("kubernetes.io")
        pod = bound.get("pod") if isinstance(bound, dict) else None
        if claims.get("sub") != self.subject or not isinstance(pod, dict):
            raise TokenError("it names no pod of a run")
        name, uid = pod.get("name"), pod.get("uid")
        if not isinstance(name, str) or not isinstance(uid, str) or not uid:
            raise TokenError("it names no pod of a run")
        return name, uid


@dataclass
class NodePods:
    node: str
    audience: str
    key: SigningKey
    issuer: PodIssuer | None
    orders: NodeOrders
    policy: PolicyFile
    broker: AsyncBrokerClient
    audit: Audit

    async def token(self, http: Request, run: str, request: TokenRequest) -> Token:
        """A run token for this gateway, which ends with access and order at the latest."""
        order = await self._acting(http, run)
        lifetime = order.lifetime()
        if lifetime <= 1:
            raise ProblemError(
                403, "access-ended", f"The access to {', '.join(order.datasets)} has ended.", action="Apply again."
            )
        if request.audience != self.audience:
            raise ProblemError(403, "wrong-audience", "This pod acts at its own node only.", action="Ask for it.")
        if request.min_ttl > lifetime:
            raise ProblemError(
                409,
                "min-ttl-unavailable",
                f"A token that lives {request.min_ttl:.0f} s was asked for; this one can live {lifetime:.0f} s.",
                action="Ask for a shorter min_ttl.",
            )
        token = order.token(self.key, self.node, self.audience, SNAKEMAKE_SCOPE, workload=str(order.pod))
        return Token(token=token, expires_at=int(time.time() + lifetime))

    async def events(self, http: Request, run: str, batch: EventBatch) -> None:
        """What of them may be told goes to the broker; how the part ended is kept for the agent to tell."""
        order = await self._acting(http, run)
        if batch.source != order.pod:
            raise ProblemError(403, "wrong-source", "A pod writes under its own name only.", action="Set source so.")
        policy = self.policy.current()
        telling = Telling(
            order.approved,
            frozenset(order.rules),
            policy.progress,
            policy.error_lines,
            frozenset(policy.error_classes),
            frozenset(order.datasets),
        )
        for event in batch.events if order.approved else []:
            if event.state == "failed" and event.kind in ("job", "node"):
                order = await self._failed(order, event, telling)
        fit = public_events(batch.events, telling)
        if not fit:
            return
        try:
            await self.broker.post_events(run, EventBatch(source=batch.source, events=fit))
        except httpx.HTTPError as error:
            raise away(type(error).__name__) from None

    async def _failed(self, order: NodeOrder, event: Event, telling: Telling) -> NodeOrder:
        """Kept for the agent to tell: the first job that failed for good says more than Snakemake's end."""
        if event.kind == "node" and order.detail:
            return order
        detail, dataset = failed_part(event, telling)
        return await self.orders.change(order, detail=detail, dataset=dataset)

    async def _acting(self, http: Request, run: str) -> NodeOrder:
        scheme, _, token = http.headers.get("authorization", "").partition(" ")
        if self.issuer is None or scheme.lower() != "bearer" or not 0 < len(token) <= MAX_TOKEN:
            raise ProblemError(401, "unauthenticated", "A pod's identity token is needed.", action=STOP)
        try:
            name, uid = self.issuer.identify(token.strip())
        except KeysUnavailable as error:
            raise ProblemError(503, "issuer-away", f"{error}.", action="It is written when the agent is up.") from None
        except TokenError as error:
            raise ProblemError(
                401, "unauthenticated", f"The pod's identity token is not acceptable: {error}.", action=STOP
            ) from None
        orders = [o for o in await self.orders.of_run(run) if o.kind == "analyse"]
        mine = next((o for o in orders if o.pod == name), None)
        if mine is None:
            fenced = name.startswith(f"{run}-{self.node}-") and bool(orders)
            raise await self._refuse(name, run, "workload-fenced" if fenced else "workload-unknown")
        if mine.pod_uid is None or not hmac.compare_digest(mine.pod_uid.encode(), uid.encode("utf-8", "replace")):
            raise await self._refuse(name, run, "wrong-uid")
        if mine is not orders[-1]:
            raise await self._refuse(name, run, "workload-fenced")
        if mine.state != "running":
            raise ProblemError(409, "run-closed", f"The order of pod {name} is {mine.state}.", action=STOP)
        return mine

    async def _refuse(self, pod: str, run: str, slug: str) -> ProblemError:
        detail = {
            "workload-unknown": f"Pod {pod} was not started by this node for run {run}.",
            "wrong-uid": f"Another pod named {pod} was started.",
            "workload-fenced": f"Pod {pod} was replaced by a newer one.",
        }[slug]
        await self.audit.record(AuditEvent("workload", False, f"pod:{pod}", run, reason=f"{slug}: {detail}"))
        return ProblemError(403, slug, detail, action=STOP)
