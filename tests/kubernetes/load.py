"""Token requests at a steady rate over pooled connections, as gateways and Snakemake pods make them: each answer and
each error counted.
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

RATE = 50  # token requests a second


class Asked(Protocol):
    """Where a broker is asked, and as whom."""

    @property
    def public_url(self) -> str: ...

    def identity(self) -> str: ...


class Load:
    """`rate` run tokens a second over pooled connections, for as long as it is used; every answer and error counted."""

    def __init__(self, world: Asked, run: str, audience: str, rate: int = RATE) -> None:
        self.seen: Counter[str] = Counter()
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
        self._thread.join(60)

    @property
    def failed(self) -> dict[str, int]:
        return {k: n for k, n in self.seen.items() if k != "200"}

    async def _run(self) -> None:
        limits = httpx.Limits(max_connections=100, max_keepalive_connections=50)
        async with httpx.AsyncClient(
            trust_env=False, timeout=20, limits=limits, headers={"Authorization": f"Bearer {self._token}"}
        ) as http:
            asked: set[asyncio.Task[None]] = set()
            next_at = time.monotonic()
            while not self._end.is_set():
                one = asyncio.create_task(self._ask(http))
                asked.add(one)
                one.add_done_callback(asked.discard)
                next_at += 1 / self._rate
                await asyncio.sleep(max(0, next_at - time.monotonic()))
            await asyncio.gather(*asked)

    async def _ask(self, http: httpx.AsyncClient) -> None:
        began = time.monotonic()
        try:
            self.seen[str((await http.post(self._url, json=self._body)).status_code)] += 1
        except httpx.HTTPError as error:
            self.seen[type(error).__name__] += 1
        self.slowest = max(self.slowest, time.monotonic() - began)


def updated(world: Coordinator, run: str, audience: str) -> tuple[Load, float]:
    """A rolling update of both replicas under load: what the load saw, and the seconds that helm took."""
    before = set(pods_of(world.cluster).values())
    with Load(world, run, audience) as load:
        until("the load runs", lambda: load.seen["200"] > RATE, 30, why=lambda: str(load.seen))
        started = time.monotonic()
        world.upgrade("--set", f"broker.podAnnotations.update=at-{time.time_ns()}")
        took = time.monotonic() - started
        until("the old replicas are gone", lambda: not set(pods_of(world.cluster).values()) & before, 60)
        asked = load.seen["200"]
        until("the new ones answer", lambda: load.seen["200"] > asked + RATE, 30)
    return load, took
