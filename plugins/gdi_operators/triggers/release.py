"""ReleaseTrigger: waits while a person of the node decides on a release, with no worker."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

from airflow.triggers.base import BaseTrigger, TriggerEvent

from gdi_operators.triggers.settled import Settled


class ReleaseTrigger(BaseTrigger):
    """Yields at `until` (epoch seconds, so that a triggerer's restart changes nothing); then the operator asks again. `state` comes back in the event."""

    def __init__(self, *, until: float, state: dict[str, Any] | None = None) -> None:
        super().__init__()
        self.until, self.state = until, state or {}

    def serialize(self) -> tuple[str, dict[str, Any]]:
        return f"{type(self).__module__}.{type(self).__name__}", {"until": self.until, "state": self.state}

    async def run(self) -> AsyncIterator[TriggerEvent]:
        settled = Settled()
        await asyncio.sleep(max(0.0, self.until - time.time()))
        await settled.wait()
        yield TriggerEvent({"kind": "ask-again", "state": self.state})
