"""The broker, asked with the caller's own token: it alone says who the caller is and what they may do."""

from __future__ import annotations

import time
from collections import OrderedDict
from typing import Any, TypeVar
from urllib.parse import quote

import httpx
from pydantic import BaseModel, TypeAdapter, ValidationError

from gdi.broker_client.client import LIMITS, TIMEOUT, as_problem, read
from gdi.contracts import access as a
from gdi.contracts import broker_api as m
from gdi.contracts import committees as u
from gdi.contracts.nodes import Nodes, PreflightAnswer, PreflightRequest
from gdi.contracts.notices import NoticeChoice, NoticeSettings
from gdi.kit.bounded_read import BoundedAsyncClient
from gdi.kit.canonical import sha256_hex
from gdi.kit.problem import ProblemError
from gdi.kit.tls import authorities

M = TypeVar("M", bound=BaseModel)
KEEP, MOST_KEPT = 20.0, 5000  # seconds for which a token's owner is remembered, by its hash
MAX_TOKEN = 16_384
_GRANTS = TypeAdapter(list[m.Grant])


class BrokerForUsers:
    """Each call takes the caller's bearer token and sends it on; none is kept."""

    def __init__(self, url: str, *, transport: httpx.AsyncBaseTransport | None = None) -> None:
        limits = httpx.Limits(
            max_connections=100, max_keepalive_connections=50, keepalive_expiry=LIMITS.keepalive_expiry
        )
        self._http = BoundedAsyncClient(
            base_url=url, timeout=TIMEOUT, limits=limits, trust_env=False, verify=authorities(), transport=transport
        )
        self._callers: OrderedDict[str, tuple[float, a.TokenOwner]] = OrderedDict()

    async def aclose(self) -> None:
        await self._http.aclose()

    async def caller(self, token: str) -> a.TokenOwner:
        """Who the token is of; 401 where it is nobody's. Remembered for `KEEP` seconds, so that a token that was
        revoked meanwhile still lists its own user's runs for so long; whatever changes anything goes to the broker each
        time.
        """
        key, now = sha256_hex(token.encode()), time.monotonic()
        at, known = self._callers.get(key, (0.0, None))
        if known is not None and now - at < KEEP:
            return known
        found = await self._send(a.TokenOwner, token, "GET", "/v1/me")
        while len(self._callers) >= MOST_KEPT:
            self._callers.popitem(last=False)
        self._callers[key] = now, found
        return found

    async def datasets(self, token: str) -> a.DatasetList:
        return await self._send(a.DatasetList, token, "GET", "/v1/datasets")

    async def nodes(self, token: str) -> Nodes:
        return await self._send(Nodes, token, "GET", "/v1/nodes")

    async def preflight(self, token: str, request: PreflightRequest) -> PreflightAnswer:
        return await self._send(PreflightAnswer, token, "POST", "/v1/preflight", json=_body(request))

    async def own_runs(self, token: str, after: float) -> a.OwnRuns:
        return await self._send(a.OwnRuns, token, "GET", "/v1/me/runs", params={"after": after})

    async def grants(self, token: str) -> list[m.Grant]:
        answer = await self._request(token, "GET", "/v1/grants")
        try:
            return _GRANTS.validate_json(answer.content)
        except ValidationError:
            raise ProblemError(502, "bad-answer", "The broker's list of grants is not one.") from None

    async def create_grant(self, token: str, request: m.GrantRequest) -> m.Grant:
        return await self._send(m.Grant, token, "POST", "/v1/grants", json=_body(request))

    async def grant(self, token: str, grant: str) -> m.Grant:
        return await self._send(m.Grant, token, "GET", f"/v1/grants/{grant}")

    async def revoke_grant(self, token: str, grant: str) -> m.Grant:
        return await self._send(m.Grant, token, "DELETE", f"/v1/grants/{grant}")

    async def ticket(self, token: str, grant: str, request: m.TicketRequest) -> m.Ticket:
        return await self._send(m.Ticket, token, "POST", f"/v1/grants/{grant}/tickets", json=_body(request))

    async def committees(self, token: str) -> u.Committees:
        return await self._send(u.Committees, token, "GET", "/v1/committees")

    async def uses(self, token: str, query: dict[str, Any]) -> u.UsePage:
        return await self._send(u.UsePage, token, "GET", "/v1/committees/uses", params=query)

    async def stops(self, token: str) -> u.StopList:
        return await self._send(u.StopList, token, "GET", "/v1/committees/stops")

    async def make_stop(self, token: str, committee: str, request: u.CommitteeStop) -> u.StopAnswer:
        return await self._send(
            u.StopAnswer, token, "POST", f"/v1/committees/{quote(committee, safe='')}/stops", json=_body(request)
        )

    async def lift_stop(self, token: str, stop: int) -> u.Stop:
        return await self._send(u.Stop, token, "DELETE", f"/v1/committees/stops/{stop}")

    async def notices(self, token: str) -> NoticeSettings:
        return await self._send(NoticeSettings, token, "GET", "/v1/me/notices")

    async def choose_notices(self, token: str, choice: NoticeChoice) -> NoticeSettings:
        return await self._send(NoticeSettings, token, "PUT", "/v1/me/notices", json=_body(choice))

    async def jobs(self, token: str, run: str, after: int, limit: int) -> m.JobPage:
        path = f"/v1/runs/{run}/jobs"
        return await self._send(m.JobPage, token, "GET", path, params={"after": after, "limit": limit})

    async def progress(self, token: str, run: str) -> m.Progress:
        return await self._send(m.Progress, token, "GET", f"/v1/runs/{run}/progress")

    async def _send(self, model: type[M], token: str, method: str, path: str, **options: Any) -> M:
        return read(await self._request(token, method, path, **options), model)

    async def _request(self, token: str, method: str, path: str, **options: Any) -> httpx.Response:
        try:
            headers = {"Authorization": f"Bearer {token}"}
            answer = await self._http.request(method, path, headers=headers, **options)
        except httpx.HTTPError as error:
            raise ProblemError(
                503,
                "broker-away",
                f"The token broker cannot be asked now ({type(error).__name__}).",
                action="Send the request again in some seconds.",
                retry_after=5,
            ) from None
        if answer.is_success:
            return answer
        raise as_problem(answer)


def _body(model: BaseModel) -> dict[str, Any]:
    return model.model_dump(mode="json", exclude_none=True)
