"""A user's token for the TES is kept for as long as the run is believed to be open, and no longer (decision 873)."""

from __future__ import annotations

import time
from typing import Any

import pytest

from gdi.contracts.tokens import NodeTokenRequest, Token
from gdi.kit.problem import ProblemError
from node_gateway import broker as module
from node_gateway.broker import BrokerConnection


class Issuer:
    """A broker's side: a new token at each request."""

    def __init__(self, lifetime: float = 600) -> None:
        self.lifetime, self.count, self.closed = lifetime, 0, False

    async def node_token(self, run: str, request: NodeTokenRequest) -> Token:
        if self.closed:
            raise ProblemError(403, "run-closed", f"{run} is closed.")
        self.count += 1
        return Token(token=f"{request.audience}-{self.count}", expires_at=time.time() + self.lifetime)


def connection(issuer: Any, fresh_for: float = 5) -> BrokerConnection:
    return BrokerConnection(issuer, "node-a", fresh_for=fresh_for, wait=1)


async def test_it_is_kept_by_run_and_none_is_kept_for_reads() -> None:
    known = connection(Issuer())
    assert [await known.tes_token("r-1"), await known.tes_token("r-1")] == ["tes-1", "tes-1"]
    assert await known.tes_token("r-2") == "tes-2"
    assert [await known.node_token("r-1", "sda"), await known.node_token("r-1", "sda")] == ["sda-3", "sda-4"]
    assert await known.tes_token("r-1") == "tes-1"


@pytest.mark.parametrize(("fresh_for", "lifetime"), [(-1.0, 600.0), (5.0, 4.0)], ids=["too old", "soon over"])
async def test_one_that_is_not_fresh_or_soon_over_is_not_used_again(fresh_for: float, lifetime: float) -> None:
    known = connection(Issuer(lifetime), fresh_for)
    assert [await known.tes_token("r-1"), await known.tes_token("r-1")] == ["tes-1", "tes-2"]


async def test_a_closed_run_has_none() -> None:
    issuer = Issuer()
    known = connection(issuer)
    await known.tes_token("r-1")
    issuer.closed = True
    with pytest.raises(ProblemError):
        await known.node_token("r-1", "sda")  # by which the gateway learns it
    with pytest.raises(ProblemError):
        await known.tes_token("r-1")


async def test_the_last_ones_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_CACHED_RUNS", 2)
    known = connection(Issuer())
    assert [await known.tes_token(f"r-{n}") for n in (1, 2, 3)] == ["tes-1", "tes-2", "tes-3"]
    assert [await known.tes_token(f"r-{n}") for n in (3, 2, 1)] == ["tes-3", "tes-2", "tes-4"]
