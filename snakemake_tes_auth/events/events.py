"""Events to the broker: numbered, in order, in batches, with patience; never in the way of Snakemake. A full queue
drops progress first and says so.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable
from typing import Any

import httpx
from pydantic import ValidationError

from gdi.broker_client.client import AsyncBrokerClient
from gdi.contracts.events import Event, EventBatch
from gdi.kit.problem import ProblemError
from gdi.kit.retry import RetryPolicy
from snakemake_tes_auth.retry import transient

log = logging.getLogger("snakemake_tes_auth.events.events")
BATCH = 500
MAX_QUEUE = 20_000
MAX_BATCH_BYTES = 1024 * 1024
_TEXT, _LABEL = 2000, 255
_FIELDS = frozenset(Event.model_fields) - {"seq"}


def event(values: dict[str, Any], seq: int) -> Event | None:
    """An event of the API from what a logger record carries: unknown fields left out, texts cut to the API's bounds.
    None where it is no event at all.
    """
    try:
        return Event(seq=seq, **_bounded(values))
    except (ValidationError, TypeError, ValueError, OverflowError):
        return None


def _bounded(values: dict[str, Any]) -> dict[str, Any]:
    clean = {k: v for k, v in values.items() if k in _FIELDS and v is not None}
    clean.setdefault("time", time.time())
    for name, bound in (("message", _TEXT), ("rule", _LABEL), ("job", _LABEL), ("task", _LABEL)):
        if name in clean:
            clean[name] = str(clean[name])[:bound]
    if "wildcards" in clean:
        clean["wildcards"] = {str(k)[:_LABEL]: str(v)[:_LABEL] for k, v in list(dict(clean["wildcards"]).items())[:50]}
    if "counts" in clean:
        clean["counts"] = {str(k)[:_LABEL]: int(v) for k, v in list(dict(clean["counts"]).items())[:2000]}
    if "usage" in clean:
        clean["usage"] = {str(k)[:_LABEL]: float(v) for k, v in list(dict(clean["usage"]).items())[:20]}
    return clean


class EventPump:
    """Takes events on one loop and posts them. `source` names the writer; numbers start at 1. `sent` hears what the
    broker has taken.
    """

    def __init__(
        self,
        broker: AsyncBrokerClient,
        run: str,
        source: str,
        *,
        patience: RetryPolicy | None = None,
        say: Callable[[str], None] = log.warning,
        sent: Callable[[list[Event]], None] = lambda _: None,
    ) -> None:
        self._broker = broker
        self._run = run
        self._source = source
        self._patience = patience or RetryPolicy(total=float("inf"), longest=15)
        self._say = say
        self._sent = sent
        self._queue: deque[Event] = deque()
        self._wake = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._seq = 0
        self._closed = False
        self.dropped = 0
        self.refused = False

    @property
    def room(self) -> int:
        """How many events may be put before progress is dropped."""
        return MAX_QUEUE - len(self._queue)

    def put(self, values: dict[str, Any]) -> None:
        """Numbers and queues one event. Where the queue is full the oldest progress, else this one, is dropped and
        counted.
        """
        if self._closed or self.refused:
            return
        made = event(values, self._seq + 1)
        if made is None:
            return
        if self.room <= 0:
            self.dropped += 1
            stale = next((e for e in self._queue if e.kind == "progress"), None)
            if stale is None and made.kind not in ("node", "rules"):
                return
            if stale is not None:
                self._queue.remove(stale)
        self._seq += 1
        self._queue.append(made)
        self._idle.clear()
        self._wake.set()

    async def run(self) -> None:
        """Posts until closed and empty. A batch that the broker refuses as wrong is dropped; a broker that refuses the
        writer ends it.
        """
        attempt = 0
        while True:
            while not self._queue:
                self._idle.set()
                if self._closed:
                    return
                self._wake.clear()
                await self._wake.wait()
            batch = self._batch()
            try:
                await self._broker.post_events(self._run, EventBatch(source=self._source, events=batch))
            except (ProblemError, httpx.TransportError, OSError) as error:
                full = isinstance(error, ProblemError) and error.slug == "too-many-events"
                if isinstance(error, OSError) or (transient(error) and not full):
                    attempt += 1
                    if attempt == 3:
                        self._say(f"events wait for the broker: {type(error).__name__}")
                    await asyncio.sleep(self._patience.pause(attempt))
                    continue
                assert isinstance(error, ProblemError)
                self._say(f"the broker refused {len(batch)} events: {error}")
                if full or error.problem.status in (401, 403, 404, 410):
                    self.refused = True
                    self._queue.clear()
                    continue
            else:
                self._sent(batch)
            attempt = 0
            sent = {e.seq for e in batch}
            while self._queue and self._queue[0].seq in sent:
                self._queue.popleft()

    def _batch(self) -> list[Event]:
        batch: list[Event] = []
        size = 0
        for item in self._queue:
            size += len(item.message or "") + 60 * (len(item.wildcards) + len(item.counts)) + 400
            if batch and (len(batch) >= BATCH or size > MAX_BATCH_BYTES):
                break
            batch.append(item)
        return batch

    async def close(self, timeout: float = 30) -> bool:
        """Waits until all is sent, at most `timeout` seconds; whether it was."""
        self._closed = True
        self._wake.set()
        try:
            await asyncio.wait_for(self._idle.wait(), timeout)
        except TimeoutError:
            self._say(f"{len(self._queue)} events could not be sent within {timeout:.0f} s")
            return False
        return True
