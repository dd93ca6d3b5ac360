"""The nodes as people see them: enrolled ones, and whether their gateways answer."""

from __future__ import annotations

import asyncio
import time

import httpx

from gdi.contracts.nodes import NodeStatus
from gdi.contracts.portal_api import NodeEntry, NodeList, NodeState
from gdi.kit.bounded_read import BoundedAsyncClient
from gdi.kit.tls import authorities

KEEP, TIMEOUT = 10.0, 3.0  # seconds


class NodeLooks:
    """A node with an agent is judged by its heartbeat, as the broker knows it; another by its gateway's public
    `/readyz`, which is asked at most every `KEEP` seconds, whoever looks.
    """

    def __init__(self, *, transport: httpx.AsyncBaseTransport | None = None) -> None:
        self._http = BoundedAsyncClient(
            timeout=TIMEOUT, trust_env=False, verify=authorities(), max_answer=64 * 1024, transport=transport
        )
        self._seen: dict[
            str, tuple[float, NodeState, float | None]
        ] = {}  # by URL: when asked, state, when it was last up
        self._locks: dict[str, asyncio.Lock] = {}

    async def aclose(self) -> None:
        await self._http.aclose()

    async def list(self, statuses: list[NodeStatus]) -> NodeList:
        return NodeList(nodes=list(await asyncio.gather(*(self._entry(status) for status in statuses))))

    async def _entry(self, status: NodeStatus) -> NodeEntry:
        state: NodeState = "up" if status.life == "up" else "away" if status.life == "away" else "unknown"
        seen = status.seen_at
        if status.placement == "coordinator" and state != "up" and status.gateway_url:
            state, probed = await self._look(status.gateway_url)
            seen = max((t for t in (seen, probed) if t is not None), default=None)
        ill = [f"{part} ({what})" for part, what in status.health.items() if what != "ok"]
        if state == "up":
            sentence = f"The node answers, but not all of it works: {', '.join(ill)}." if ill else "The node answers."
        elif seen is None:
            sentence = "The node was never seen." if state == "unknown" else "The node does not answer."
        else:
            moment = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(seen))
            sentence = f"The node does not answer; it was last seen at {moment}."
        return NodeEntry(
            id=status.node,
            state=state,
            seen_at=seen,
            sentence=sentence,
            datasets=status.datasets,
            placement=status.placement,
            version=status.version,
            orders=sum(status.orders.values()),
            limits=status.limits,
        )

    async def _look(self, url: str) -> tuple[NodeState, float | None]:
        async with self._locks.setdefault(url, asyncio.Lock()):
            at, state, seen = self._seen.get(url, (0.0, "unknown", None))
            if state != "unknown" and time.monotonic() - at < KEEP:
                return state, seen
            try:
                answer = await self._http.get(url + "/readyz")
                state = "up" if answer.is_success else "away"
            except httpx.HTTPError:
                state = "away"
            self._seen[url] = (time.monotonic(), state, time.time() if state == "up" else seen)
            return state, self._seen[url][2]
