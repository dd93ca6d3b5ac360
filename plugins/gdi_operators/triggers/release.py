"""ReleaseTrigger: waits while a person of the node decides on a release, with no worker; hears of the decision within
seconds.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator
from typing import Any

import httpx
from airflow.triggers.base import BaseTrigger, TriggerEvent
from pydantic import ValidationError

from gdi.broker_client.client import AsyncBrokerClient, as_problem
from gdi.contracts import broker_api as m
from gdi.contracts.gateway_api import WAITING, Review
from gdi.kit.bearer import BearerAuth
from gdi.kit.bounded_read import BoundedAsyncClient
from gdi.kit.problem import ProblemError
from gdi.kit.settings import SettingsError
from gdi.kit.tls import authorities
from gdi_operators.hooks.gateway import MAX_ANSWER, small_answers
from gdi_operators.hooks.token_broker import TokenBrokerHook
from gdi_operators.retry import is_away, short
from gdi_operators.triggers.deferral_race import DeferralRace

LONG_POLL = 15.0  # seconds that the gateway may hold a question; it answers at once when there is a decision
EARLY = 1.0  # seconds at least between questions where the gateway does not hold them: it has too many; with jitter
PAUSE = 5.0  # between questions where the gateway or the broker is away; with jitter
TIMEOUT = httpx.Timeout(LONG_POLL + 15, connect=5)


class ReleaseTrigger(BaseTrigger):
    """Yields one event `{"kind", "message", "state"}` when there is a decision (`decided`), the gateway or broker
    refuses to tell (`refused`: a worker asks

    and fails with the reason), or `until` (epoch seconds) has come (`late`). `state` comes back as it was given. `item`
    is the node's part of the plan; the run token is fetched here and never stored. A triggerer that dies or restarts
    changes nothing.
    """

    def __init__(
        self,
        *,
        run: str,
        item: dict[str, Any],
        release: str,
        until: float,
        token_broker_conn_id: str | None = None,
        state: dict[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.run_id, self.item, self.release, self.until = run, item, release, until
        self.token_broker_conn_id, self.state = token_broker_conn_id, state or {}

    def serialize(self) -> tuple[str, dict[str, Any]]:
        return f"{type(self).__module__}.{type(self).__name__}", {
            "run": self.run_id,
            "item": self.item,
            "release": self.release,
            "until": self.until,
            "token_broker_conn_id": self.token_broker_conn_id,
            "state": self.state,
        }

    async def run(self) -> AsyncIterator[TriggerEvent]:
        settled = DeferralRace()
        try:
            broker = await TokenBrokerHook(self.token_broker_conn_id).aget_conn()
        except SettingsError as error:
            await settled.wait()
            yield TriggerEvent({"kind": "refused", "message": str(error), "state": self.state})
            return
        async with (
            broker,
            BoundedAsyncClient(
                max_answer=MAX_ANSWER, base_url=str(self.item["gateway_url"]), timeout=TIMEOUT, verify=authorities()
            ) as gateway,
        ):
            kind, message = await self._wait(broker, gateway)
        await settled.wait()
        yield TriggerEvent({"kind": kind, "message": message, "state": self.state})

    async def _wait(self, broker: AsyncBrokerClient, gateway: BoundedAsyncClient) -> tuple[str, str]:
        token, last_error = None, ""
        while (left := self.until - time.time()) > 0:
            try:
                if token is None or token.expires_at - time.time() < LONG_POLL + 15:
                    token = await broker.token(
                        self.run_id, m.TokenRequest(audience=str(self.item["audience"]), min_ttl=60, scope="releases")
                    )
                sent_at, wait = time.monotonic(), min(LONG_POLL, left)
                state = await self._ask(gateway, token.token, wait)
                if state != WAITING:
                    return "decided", state
                if time.monotonic() - sent_at < 0.9 * wait:
                    await asyncio.sleep(EARLY * random.uniform(1, 1.5))  # noqa: S311
                continue
            except (httpx.TransportError, ProblemError, FileNotFoundError) as error:
                if not is_away(error) and not _stale(error, token):
                    return "refused", short(error)
                token = None
                if short(error) != last_error:
                    last_error = short(error)
                    self.log.info("%s; still waiting.", last_error)
            await asyncio.sleep(PAUSE * random.uniform(0.7, 1.3))  # noqa: S311
        return "late", ""

    async def _ask(self, gateway: BoundedAsyncClient, token: str, wait: float) -> str:
        path = f"/releases/{self.run_id}/{self.release}/review"
        with small_answers(path):
            answer = await gateway.get(path, params={"wait": round(wait, 1)}, auth=BearerAuth(lambda: token))
        if not answer.is_success:
            raise as_problem(answer)
        try:
            return Review.model_validate_json(answer.content).state
        except ValidationError:
            raise ProblemError(
                502, "bad-answer", f"The gateway of {self.item['node']} does not say how its review stands."
            ) from None


def _stale(error: Exception, token: m.Token | None) -> bool:
    """A token that was good a while ago and is not now: a new one is fetched, and then the answer counts."""
    return (
        isinstance(error, ProblemError)
        and error.problem.status == 401
        and token is not None
        and token.expires_at - time.time() < LONG_POLL + 60
    )
