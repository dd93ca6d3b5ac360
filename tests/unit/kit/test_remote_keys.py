"""Keys that others publish: a new one is known at its first token, a flood of invented ones asks the publisher next to
nothing.
"""

from __future__ import annotations

import asyncio
import time
from types import SimpleNamespace
from typing import Any

import httpx
import pytest

from gdi.kit.jose import KeysUnavailable, RemoteKeys, SigningKey, TokenError
from gdi.kit.problem import ProblemError
from tests.support.clock import virtually
from tests.support.wire import answers_of
from tests.support.wires import KEY_SETS
from token_broker.authentication.callers import Authentication
from token_broker.enrolment import WorkloadIssuer

ISSUER, AUDIENCE = "https://broker.example", "https://node.example"


class Publisher:
    """Serves the public keys of `signers`; counts how often it is asked."""

    def __init__(self, *signers: SigningKey) -> None:
        self.signers, self.asked, self.away = list(signers), 0, False
        self.keys = RemoteKeys(
            "https://broker.example/jwks", httpx.AsyncClient(transport=answers_of(KEY_SETS, self._answer))
        )

    def _answer(self, _: httpx.Request) -> httpx.Response:
        self.asked += 1
        return httpx.Response(503) if self.away else httpx.Response(200, json={"keys": [s.jwk() for s in self.signers]})

    async def takes(self, signer: SigningKey) -> bool:
        token = signer.sign({"iss": ISSUER, "aud": AUDIENCE}, lifetime=60, typ="at+jwt")
        try:
            await self.keys.verify(token, issuer=ISSUER, audience=AUDIENCE, typ="at+jwt")
        except TokenError:
            return False
        return True


def _keys(number: int) -> list[SigningKey]:
    return [SigningKey.generate() for _ in range(number)]


def test_a_new_key_is_taken_at_once_however_lately_the_old_ones_were_fetched() -> None:
    old, new = _keys(2)
    publisher = Publisher(old)

    async def story() -> list[bool]:
        before = [await publisher.takes(old), await publisher.takes(old)]
        publisher.signers = [new]
        return [
            *before,
            *await asyncio.gather(*(publisher.takes(new) for _ in range(10))),
            not await publisher.takes(old),
        ]

    assert virtually(story()) == [True] * 13
    assert publisher.asked == 3, "one for the old key, one for the new one, one for the old one that is gone"


def test_invented_keys_are_looked_for_once_in_a_while() -> None:
    (real,) = _keys(1)
    publisher = Publisher(real)
    publisher.keys.refetch_after = 0.3

    async def story() -> None:
        assert await publisher.takes(real)
        for _ in range(2):
            assert not any(await asyncio.gather(*(publisher.takes(invented) for invented in _keys(20))))
            await asyncio.sleep(0.31)

    virtually(story())
    assert publisher.asked == 3


def test_known_keys_serve_while_the_publisher_is_away() -> None:
    real, invented = _keys(2)
    publisher = Publisher(real)

    async def story() -> list[bool]:
        began = time.monotonic()
        first = await publisher.takes(real)
        publisher.away = True
        unknown = [await publisher.takes(invented) for _ in range(5)]
        publisher.keys.fresh_for = -1
        known = await publisher.takes(real)
        assert time.monotonic() - began < 5
        return [first, *unknown, known]

    assert virtually(story()) == [True, *[False] * 5, True]
    assert publisher.asked == 3


def test_a_key_that_cannot_be_fetched_now_is_another_refusal_than_a_wrong_one() -> None:
    """Who sent the token may send it again: its issuer may have a new key, and be away."""
    real, new = _keys(2)
    publisher = Publisher(real)

    async def refused() -> type[TokenError]:
        with pytest.raises(TokenError) as error:
            await publisher.keys.verify(
                new.sign({"iss": ISSUER, "aud": AUDIENCE}, lifetime=60, typ="at+jwt"), issuer=ISSUER, audience=AUDIENCE
            )
        return error.type

    async def story() -> list[type[TokenError]]:
        assert await publisher.takes(real)
        wrong, publisher.away, publisher.keys.refetch_after = await refused(), True, 0
        away, publisher.keys.refetch_after = await refused(), 60
        still, publisher.keys.refetch_after, publisher.away = await refused(), 0, False
        return [wrong, away, still, await refused()]

    assert virtually(story()) == [TokenError, KeysUnavailable, KeysUnavailable, TokenError]


def test_no_keys_at_all_are_said_and_do_not_take_the_place_of_those_that_were() -> None:
    (real,) = _keys(1)
    publisher = Publisher(real)
    publisher.away = True
    with pytest.raises(KeysUnavailable, match="no JWKS"):
        virtually(publisher.keys.keys())
    publisher.away, publisher.keys.refetch_after = False, 0

    async def story() -> list[bool]:
        first = await publisher.takes(real)
        publisher.signers, publisher.keys.fresh_for = [], -1
        return [first, await publisher.takes(real)]

    assert virtually(story()) == [True, True]


def test_the_broker_asks_a_workload_to_come_again_while_its_issuers_keys_cannot_be_had() -> None:
    (key,) = _keys(1)
    issuer = WorkloadIssuer.model_validate(
        {"issuer": ISSUER, "audience": AUDIENCE, "jwks_url": "http://127.0.0.1:9/jwks", "airflow": ["system:a"]}
    )
    enrolment: Any = SimpleNamespace(current=SimpleNamespace(workload_issuers=[issuer]))
    nothing: Any = None  # no user and no gateway calls here
    http = httpx.AsyncClient(trust_env=False)
    callers = Authentication(http, enrolment, nothing, "https://broker.example", nothing)
    token = key.sign({"iss": ISSUER, "aud": AUDIENCE, "sub": "system:a"}, lifetime=60, typ="JWT")
    with pytest.raises(ProblemError) as error:
        virtually(callers.identify(f"Bearer {token}"))
    assert error.value.problem.status == 503 and error.value.slug == "issuer-away"
