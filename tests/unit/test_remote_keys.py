"""Keys that others publish: a new one is known at its first token, a flood of invented ones asks the publisher next to nothing."""

from __future__ import annotations

import asyncio
import time

import httpx
import pytest

from gdi_common.jose import RemoteKeys, SigningKey, TokenError

ISSUER, AUDIENCE = "https://broker.example", "https://node.example"


class Publisher:
    """Serves the public keys of `signers`; counts how often it is asked."""

    def __init__(self, *signers: SigningKey) -> None:
        self.signers, self.asked, self.away = list(signers), 0, False
        self.keys = RemoteKeys("https://broker.example/jwks", httpx.AsyncClient(transport=httpx.MockTransport(self._answer)))

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
        return [*before, *await asyncio.gather(*(publisher.takes(new) for _ in range(10))), not await publisher.takes(old)]

    assert asyncio.run(story()) == [True] * 13
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

    asyncio.run(story())
    assert publisher.asked == 3


def test_known_keys_serve_while_the_publisher_is_away() -> None:
    real, invented = _keys(2)
    publisher = Publisher(real)

    async def story() -> list[bool]:
        first = await publisher.takes(real)
        publisher.away = True
        unknown = [await publisher.takes(invented) for _ in range(5)]
        publisher.keys.fresh_for = 0
        return [first, *unknown, await publisher.takes(real)]

    began = time.monotonic()
    assert asyncio.run(story()) == [True, *[False] * 5, True]
    assert publisher.asked == 3 and time.monotonic() - began < 5


def test_no_keys_at_all_is_said() -> None:
    publisher = Publisher()
    publisher.away = True
    with pytest.raises(TokenError, match="no JWKS"):
        asyncio.run(publisher.keys.keys())
