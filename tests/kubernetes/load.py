"""Token requests as gateways and Snakemake pods make them: some clients, each of which waits for its answer before it
asks again. Each answer and each error is counted. The machine decides how many there are in a second, at most RATE.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import Counter
from typing import Protocol

import httpx

from tests.kubernetes.cluster import until
from tests.kubernetes.coordinator import Coordinator, pods_of

RATE = 50  # token requests a second at most, of all clients together
CLIENTS = 8
FRESH = 2  # of them make a connection for each request, as curl does; the others keep theirs
PATIENCE = 60  # seconds for an answer: a machine that is busy with other things is slow, and loses none


class Asked(Protocol):
    """Where a broker is asked, and as whom."""

    @property
    def public_url(self) -> str: ...

    def identity(self) -> str: ...


class Load:
    """Run tokens, `rate` a second at most, for as long as it is used. `seen`: how often each answer came, `words`: what
    those said that were none; `slowest`: seconds.
    """

    def __init__(self, world: Asked, run: str, audience: str, rate: int = RATE) -> None:
        self.seen: Counter[str] = Counter()
        self.words: list[str] = []
        self.slowest = 0.0
        self._url, self._token, self._rate = f"{world.public_url}/v1/runs/{run}/tokens", world.identity(), rate
        self._body = {"audience": audience, "min_ttl": 30}
        self._end = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), daemon=True)

    def __enter__(self) -> Load:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join(PATIENCE + 10)
        if self._thread.is_alive():
            self.seen["no end"] += 1

    @property
    def failed(self) -> dict[str, int]:
        return {k: n for k, n in self.seen.items() if k != "200"}

    async def _run(self) -> None:
        await asyncio.gather(*(self._client(fresh=n < FRESH) for n in range(CLIENTS)))

    async def _client(self, *, fresh: bool) -> None:
        limits = httpx.Limits(max_connections=1, max_keepalive_connections=0 if fresh else 1)
        headers = {"Authorization": f"Bearer {self._token}"}
        async with httpx.AsyncClient(trust_env=False, timeout=PATIENCE, limits=limits, headers=headers) as http:
            while not self._end.is_set():
                began = time.monotonic()
                await self._ask(http)
                self.slowest = max(self.slowest, time.monotonic() - began)
                await asyncio.sleep(max(0, began + CLIENTS / self._rate - time.monotonic()))

    async def _ask(self, http: httpx.AsyncClient) -> None:
        try:
            answer = await http.post(self._url, json=self._body)
        except httpx.HTTPError as error:
            self._count(type(error).__name__, repr(error))
        else:
            self._count(str(answer.status_code), "" if answer.is_success else answer.text)

    def _count(self, what: str, said: str) -> None:
        self.seen[what] += 1
        if said and len(self.words) < 20:
            self.words.append(f"{time.strftime('%H:%M:%S')} {what}: {said[:300]}")


def updated(world: Coordinator, run: str, audience: str) -> tuple[Load, float]:
    """A rolling update of both replicas under load: what the load saw, and the seconds that helm took."""
    before = set(pods_of(world.cluster).values())
    with Load(world, run, audience) as load:
        until("the load runs", lambda: load.seen["200"] > RATE, 120, why=lambda: str(load.seen))
        started = time.monotonic()
        world.upgrade("--set", f"broker.podAnnotations.update=at-{time.time_ns()}")
        took = time.monotonic() - started
        until("the old replicas are gone", lambda: not set(pods_of(world.cluster).values()) & before, 120)
        asked = load.seen["200"]
        until("the new ones answer", lambda: load.seen["200"] > asked + RATE, 120)
    return load, took
