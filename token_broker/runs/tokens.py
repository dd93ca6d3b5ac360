"""The tokens that the broker hands out: run tokens (its own, for a gateway) and node tokens (the user's, narrowed to a
node's SDA or TES).
"""

from __future__ import annotations

import time

from sqlalchemy import RowMapping

from gdi.contracts.run_token import AIRFLOW, AIRFLOW_SCOPE, SNAKEMAKE_SCOPE, RunClaims
from gdi.contracts.tokens import NodeTokenRequest, Token, TokenRequest
from gdi.kit.jose import SigningKey
from gdi.kit.problem import ProblemError
from token_broker.audit import Audit
from token_broker.authentication.callers import AirflowCaller, GatewayCaller, PodCaller
from token_broker.grants.grants import Grants
from token_broker.runs.admission import broad_tokens
from token_broker.runs.runs import Runs, need_open, unknown
from token_broker.runs.workloads import Workloads
from token_broker.settings import Settings
from token_broker.tokens.token_refresher import TokenRefresher


class RunTokens:
    def __init__(
        self,
        settings: Settings,
        key: SigningKey,
        runs: Runs,
        workloads: Workloads,
        grants: Grants,
        refresher: TokenRefresher,
        audit: Audit,
    ) -> None:
        self._settings, self._key = settings, key
        self._runs, self._workloads, self._grants, self._keeper, self._audit = runs, workloads, grants, refresher, audit

    async def run_token(self, run_id: str, caller: AirflowCaller | PodCaller, request: TokenRequest) -> Token:
        """A `run+jwt` for the gateway whose audience is asked for; it ends with the access it speaks of."""
        run = await self._runs.known(run_id)
        if isinstance(caller, PodCaller):
            workload = await self._workloads.acting(run, caller)
            need_open(run)
            # Revoked consent stops new work; Airflow can still close.
            await self._grants.serving(run["grant_id"], run_id)
            item = next((p for p in run["plan"] if p["node"] == workload["node"]), None)
            if item is not None and item["audience"] != request.audience:
                raise ProblemError(
                    403,
                    "wrong-audience",
                    f"This pod acts at {workload['node']} only.",
                    action="Ask for the audience of the pod's own node.",
                )
            scope, generation, name = SNAKEMAKE_SCOPE, int(workload["generation"]), caller.pod
        else:
            need_open(run)
            item = next((p for p in run["plan"] if p["audience"] == request.audience), None)
            wanted = [request.scope] if request.scope else AIRFLOW_SCOPE.split()
            if request.scope:
                caller.need(request.scope)
            scope = " ".join(one for one in wanted if one in caller.scopes)
            generation, name = 0, AIRFLOW
        if item is None:
            raise ProblemError(
                403,
                "wrong-audience",
                "No node of this run's plan has this audience.",
                action="Use an audience of the plan.",
            )
        lifetime = self._settings.run_token_lifetime
        if isinstance(caller, PodCaller):  # Airflow must be able to close after access ended
            lifetime = min(lifetime, self._left(item))
        if request.min_ttl > lifetime:
            raise ProblemError(
                409,
                "min-ttl-unavailable",
                f"A token that lives {request.min_ttl:.0f} s was asked for; this one can live {lifetime:.0f} s.",
                action="Ask for a shorter min_ttl.",
            )
        expires = time.time() + lifetime
        claims = RunClaims(
            sub=run["owner"],
            run=run_id,
            attempt=run["attempt"],
            node=item["node"],
            workflow=run["workflow"],
            digest=run["digest"],
            datasets=item["datasets"],
            scope=scope,
            generation=generation,
            wl=name,
        )
        token = claims.sign(self._key, issuer=self._settings.public_url, audience=request.audience, lifetime=lifetime)
        return Token(token=token, expires_at=int(expires))

    async def node_token(self, run_id: str, gateway: GatewayCaller, request: NodeTokenRequest) -> Token:
        """The user's access token for this node's SDA or TES. Run, grant and access are looked at anew each time: what
        ended is denied at once.
        """
        run = await self._runs.known(run_id)
        item = next((p for p in run["plan"] if p["node"] == gateway.node.id), None)
        if item is None:
            raise unknown(run_id)
        try:
            await self._runs.need_open_for(run, gateway.node.id)
            await self._grants.serving(run["grant_id"], run_id)
            self._left(item)
        except ProblemError as error:
            await self._record(run, gateway, allowed=False, reason=error.slug)
            raise
        audience = gateway.node.sda_audience if request.audience == "sda" else gateway.node.tes_audience
        if self._settings.narrowing == "accepted-broad" and item.get("placement") == "node":
            await self._record(run, gateway, allowed=False, reason="narrowing-refused")
            raise broad_tokens(gateway.node.id, run["grant_id"])
        if self._settings.narrowing != "accepted-broad":
            access = await self._keeper.narrowed(run["grant_id"], audience, request.min_ttl)
        else:
            access = await self._keeper.access(run["grant_id"], request.min_ttl)
        await self._record(run, gateway, reason=request.audience)
        return Token(token=access.token, expires_at=access.expires_at)

    @staticmethod
    def _left(item: dict[str, object]) -> float:
        """Seconds until the first visa of this node's datasets ends. 403 `access-ended` when none are left."""
        left = float(str(item["access_ends_at"])) - time.time()
        if left <= 1:
            names = item["datasets"]
            raise ProblemError(
                403,
                "access-ended",
                f"The access to {', '.join(names) if isinstance(names, list) else names} has ended.",
                action="Apply for access again, then open the next attempt.",
                node=item["node"],
                datasets=names,
            )
        return left

    async def _record(self, run: RowMapping, gateway: GatewayCaller, *, allowed: bool = True, reason: str) -> None:
        await self._audit.record(
            gateway.name,
            "token.node",
            allowed=allowed,
            owner=run["owner"],
            run=run["id"],
            grant=run["grant_id"],
            node=gateway.node.id,
            reason=reason,
        )
