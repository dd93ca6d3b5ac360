"""Who calls: a user (LS AAI, by introspection), a workload (its cluster's signature) or a gateway (its enrolled key).
Nobody's word is taken.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from dataclasses import dataclass
from typing import Any

import httpx
import jwt

from gdi.kit.bearer import BearerAuth, token_file
from gdi.kit.bounded_read import BoundedAsyncClient
from gdi.kit.jose import KeysUnavailable, RemoteKeys, TokenError, verify
from gdi.kit.problem import ProblemError
from gdi.kit.retry import Failure, acall_again, every
from gdi.kit.used_ids import UsedIds
from gdi.oauth.client import OAuthClient
from gdi.oauth.errors import OAuthDenied, OAuthUnavailable
from token_broker.enrolment import AIRFLOW_SCOPES, AirflowScope, EnrolmentFile, Node, WorkloadIssuer
from token_broker.tokens.token_refresher import provider_away

MAX_TOKEN = 16_384
log = logging.getLogger(__name__)
MAX_ASSERTION_LIFE = 300
ASSERTION, LEEWAY = "assertion", 60.0  # seconds for which an expired assertion is still remembered
USER_ACTION = "Sign in again and send your LS AAI access token."


@dataclass(frozen=True)
class UserCaller:
    sub: str
    client_id: str

    @property
    def name(self) -> str:
        return self.sub


@dataclass(frozen=True)
class AirflowCaller:
    """Airflow's workload. `scopes`: what its enrolment lets it do."""

    subject: str
    name: str = "airflow"
    scopes: tuple[AirflowScope, ...] = AIRFLOW_SCOPES

    def need(self, scope: AirflowScope) -> None:
        """ProblemError 403 where it may not."""
        if scope not in self.scopes:
            raise ProblemError(
                403,
                "missing-scope",
                f"{self.subject} is not enrolled for the scope {scope}.",
                action="The operator adds it to airflow_scopes in the enrolment.",
            )


@dataclass(frozen=True)
class PodCaller:
    """A Snakemake pod: name and uid as its cluster signed them."""

    pod: str
    uid: str
    nodes: tuple[str, ...] = ()  # whose pods its cluster may name; empty: any

    @property
    def name(self) -> str:
        return f"pod:{self.pod}"


@dataclass(frozen=True)
class GatewayCaller:
    node: Node

    @property
    def name(self) -> str:
        return f"gateway:{self.node.id}"


Caller = UserCaller | AirflowCaller | PodCaller | GatewayCaller


def unauthenticated(detail: str, action: str = "Send a valid bearer token.") -> ProblemError:
    return ProblemError(401, "unauthenticated", detail, action=action)


class Authentication:
    """Turns an `Authorization` header into a Caller. The unverified `iss` only chooses which check is made."""

    def __init__(
        self,
        http: httpx.AsyncClient,
        enrolment: EnrolmentFile,
        oidc: OAuthClient,
        public_url: str,
        used_ids: UsedIds,
    ) -> None:
        self._http, self._enrolment, self._oidc, self._public_url = http, enrolment, oidc, public_url
        self._used_ids = used_ids
        self._keys: dict[str, RemoteKeys] = {}
        self._own: list[httpx.AsyncClient] = []

    def _client_for(self, issuer: WorkloadIssuer) -> httpx.AsyncClient:
        """A client that trusts the issuer's own authority and shows it the broker's token, where the enrolment names
        them.
        """
        if issuer.ca_file is None and issuer.token_file is None:
            return self._http
        context = ssl.create_default_context(cafile=issuer.ca_file)
        auth = None if issuer.token_file is None else BearerAuth(token_file(issuer.token_file))
        client = BoundedAsyncClient(verify=context, auth=auth, timeout=10, trust_env=False)
        self._own.append(client)
        return client

    async def aclose(self) -> None:
        for client in self._own:
            await client.aclose()

    async def identify(self, authorization: str | None) -> Caller:
        """401 `unauthenticated` for everybody else; 503 while LS AAI cannot be asked."""
        scheme, _, token = (authorization or "").partition(" ")
        token = token.strip()
        if scheme.lower() != "bearer" or not token:
            raise unauthenticated("No bearer token was sent.")
        if len(token) > MAX_TOKEN:
            raise unauthenticated("The bearer token is too long.")
        issuer = _issuer(token)
        enrolment = self._enrolment.current
        workload = next((w for w in enrolment.workload_issuers if w.issuer == issuer), None)
        if workload is not None:
            return await self._workload(token, workload)
        node = enrolment.node(issuer) if issuer else None
        if node is not None:
            return await self._gateway(token, node)
        return await self._user(token)

    async def _workload(self, token: str, issuer: WorkloadIssuer) -> AirflowCaller | PodCaller:
        try:
            claims = await self._verify_workload(token, issuer)
        except KeysUnavailable as error:
            log.warning("workloads of %s cannot be told: %s", issuer.issuer, error)
            raise ProblemError(
                503,
                "issuer-away",
                "The keys of this token's issuer cannot be had now.",
                action=(
                    "Send the request again in some seconds; if that stays, the operator must look at the enrolled"
                    " jwks_url or jwks_file."
                ),
            ) from None
        except TokenError as error:
            raise unauthenticated(
                f"The workload's identity token is not acceptable: {error}.",
                "Check the projected token and its issuer's key.",
            ) from None
        subject = claims.get("sub")
        if subject in issuer.airflow:
            scopes = issuer.airflow_scopes.get(str(subject))
            return AirflowCaller(str(subject), scopes=AIRFLOW_SCOPES if scopes is None else tuple(scopes))
        bound = claims.get("kubernetes.io")
        pod = bound.get("pod") if isinstance(bound, dict) else None
        if (
            subject in issuer.snakemake
            and isinstance(pod, dict)
            and isinstance(pod.get("name"), str)
            and isinstance(pod.get("uid"), str)
            and pod["uid"]
        ):
            return PodCaller(pod["name"], pod["uid"], tuple(issuer.nodes))
        raise unauthenticated(
            "The identity token is of no service account that is enrolled, or names no pod.",
            "Enrol its subject with the broker.",
        )

    async def learn(self, seconds: float) -> None:
        """Fetches the keys of every workload issuer, so that a broker that is new behind its balancer turns no workload
        away. One that does not answer within `seconds` is asked again with its first token.
        """
        issuers = self._enrolment.current.workload_issuers
        await asyncio.gather(*(self._learn(i.jwks_url, i, seconds) for i in issuers if i.jwks_url is not None))

    async def _learn(self, url: str, issuer: WorkloadIssuer, seconds: float) -> None:
        def away(failure: Failure) -> bool:
            return isinstance(failure.error, KeysUnavailable)

        try:
            async with asyncio.timeout(seconds):
                await acall_again(self._remote(url, issuer).keys, every(1, seconds), again=away)
        except (KeysUnavailable, TimeoutError, OSError) as error:
            log.warning("started without the keys of workload issuer %s: %s", issuer.issuer, str(error) or "no answer")

    def _remote(self, url: str, issuer: WorkloadIssuer) -> RemoteKeys:
        return self._keys.get(url) or self._keys.setdefault(url, RemoteKeys(url, self._client_for(issuer)))

    async def _verify_workload(self, token: str, issuer: WorkloadIssuer) -> dict[str, Any]:
        if issuer.jwks_url is not None:
            keys = self._remote(issuer.jwks_url, issuer)
            return await keys.verify(token, issuer=issuer.issuer, audience=issuer.audience)
        assert issuer.jwks_file is not None
        return verify(token, _keys_in(issuer), issuer=issuer.issuer, audience=issuer.audience)

    async def _gateway(self, token: str, node: Node) -> GatewayCaller:
        """An assertion serves once, at whichever replica (RFC 7523 §3 on `jti`)."""
        try:
            claims = verify(token, node.keys, issuer=node.id, audience=self._public_url)
            if claims.get("sub") != node.id or float(claims["exp"]) - float(claims["iat"]) > MAX_ASSERTION_LIFE:
                raise TokenError("its subject is another, or it lives too long")
            jti = claims.get("jti")
            if not isinstance(jti, str) or not 0 < len(jti) <= UsedIds.MAX_ID - len(node.id) - 1:
                raise TokenError("it has no jti")
            if not await self._used_ids.add(ASSERTION, f"{node.id}:{jti}", float(claims["exp"]) + LEEWAY):
                raise TokenError("it was used before")
        except TokenError as error:
            raise unauthenticated(
                f"The assertion of gateway {node.id} is not acceptable: {error}.",
                "Check the gateway's key, clock and broker URL.",
            ) from None
        return GatewayCaller(node)

    async def _user(self, token: str) -> UserCaller:
        try:
            found = await self._oidc.introspect(token)
        except OAuthDenied:
            raise unauthenticated("The access token could not be introspected.", USER_ACTION) from None
        except OAuthUnavailable as error:
            raise provider_away(error) from None
        sub, client = found.get("sub"), found.get("client_id")
        if found.get("active") is not True:
            raise unauthenticated("The access token is not active.", USER_ACTION)
        if not isinstance(sub, str) or not 0 < len(sub) <= 255 or not isinstance(client, str):
            raise unauthenticated(
                "The provider's introspection does not say whose the access token is: it names no `sub` and `client_id`"
                ", which RFC 7662 leaves to it.",
                "Tell the broker's operator, who has the provider send both.",
            )
        if found.get("token_type") == "refresh_token" or client not in self._enrolment.current.portal_clients:
            raise unauthenticated(
                "The access token was issued to a client that is not an enrolled portal.",
                "Use a portal of this federation.",
            )
        aud = found.get("aud")
        audiences = {aud} if isinstance(aud, str) else set(aud) if isinstance(aud, list) else set()
        foreign = {n.sda_audience for n in self._enrolment.current.nodes} | {
            n.tes_audience for n in self._enrolment.current.nodes
        }
        if audiences & foreign:
            raise unauthenticated("The access token is for a node, not for the broker.", USER_ACTION)
        return UserCaller(sub, client)


def _issuer(token: str) -> str | None:
    try:
        issuer = jwt.decode(token, options={"verify_signature": False}).get("iss")
    except (jwt.PyJWTError, ValueError, RecursionError):
        return None
    return issuer if isinstance(issuer, str) else None


def _keys_in(issuer: WorkloadIssuer) -> list[dict[str, Any]]:
    """Read at each use: the file is small, and a rotated key is seen at once."""
    import json

    assert issuer.jwks_file is not None
    try:
        keys = [k for k in json.loads(issuer.jwks_file.read_text())["keys"] if isinstance(k, dict)]
    except (OSError, ValueError, KeyError, TypeError):
        keys = []
    if not keys:  # nothing about the token, which may be sent again
        raise KeysUnavailable(f"no key set in the file of workload issuer {issuer.issuer}")
    return keys
