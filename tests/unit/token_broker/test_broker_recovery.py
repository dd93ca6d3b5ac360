"""Recovery asks the provider slow questions under a lease: it begins to redeem with a whole one, or not at all."""

from __future__ import annotations

import time
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from gdi.oauth.errors import OAuthUnavailable
from gdi.oauth.rfc6749 import TokenSet
from tests.support.clock import virtually
from token_broker.tokens.recovery import recover
from token_broker.tokens.stored_tokens import StoredTokens
from token_broker.tokens.token_refresher import TokenRefresher
from token_broker.tokens.vault import CasConflict, VaultRecord


class Vault:
    """A record that counts versions, as Vault does."""

    def __init__(self) -> None:
        self.version = 7
        self.written: list[dict[str, Any]] = []

    async def read(self, path: str) -> VaultRecord:
        return VaultRecord(
            self.written[-1] if self.written else StoredTokens("r", 60, 0, redeeming="x").write(), self.version
        )

    async def write(self, path: str, data: dict[str, Any], *, cas: int) -> int:
        if cas != self.version:
            raise CasConflict(path)
        self.version += 1
        self.written.append(data)
        return self.version


@pytest.mark.parametrize("taken", [False, True])
def test_the_lease_is_renewed_before_the_token_is_redeemed_or_another_has_it(taken: bool) -> None:
    vault = Vault()
    redeemed = []

    async def introspect(*_: Any) -> dict[str, Any]:
        if taken:
            vault.version += 1  # the lease ended meanwhile, and another took it
        return {"active": True}

    async def refresh(_: str) -> Any:
        redeemed.append(vault.written[-1]["redeeming_until"])
        raise LookupError  # that is all this test wants to know

    oidc: Any = SimpleNamespace(introspect=introspect, refresh=refresh)
    none: Any = None
    refresher = TokenRefresher(vault, oidc, lease=30, default_lifetime=60, on_refresh=none, on_dead=none)  # type: ignore[arg-type]
    before = StoredTokens("r", 60, time.time(), redeeming="other", redeeming_until=1)
    mine = replace(before, redeeming="mine", redeeming_until=time.time() + 0.5)

    async def story() -> None:
        await recover(refresher, "g", before, mine, 7)

    with pytest.raises(CasConflict if taken else LookupError):
        virtually(story())
    assert [until > time.time() + 25 for until in redeemed] == ([] if taken else [True])


async def test_a_faulty_answer_is_refused_only_after_its_refresh_token_is_stored() -> None:
    """A `scope` that is a list: the access token must not be used, but the old refresh token is used up."""
    vault, noted = Vault(), []

    async def refresh(_: str) -> TokenSet:
        fields = {"access_token": "A-1", "refresh_token": "R-1", "scope": ["openid"]}
        return TokenSet.of("the refresh", fields, access_lifetime=60)

    async def note(grant: str, held: StoredTokens) -> None:
        noted.append((grant, held.refresh_token))

    refresher = TokenRefresher(
        vault,  # type: ignore[arg-type]
        SimpleNamespace(refresh=refresh),  # type: ignore[arg-type]
        lease=30,
        default_lifetime=60,
        on_refresh=note,
        on_dead=note,  # type: ignore[arg-type]
    )
    mine = StoredTokens("R-0", 60, time.time(), redeeming="mine", redeeming_until=time.time() + 30)
    with pytest.raises(OAuthUnavailable, match="RFC 6749"):
        await refresher.redeem("g", mine, 7)
    (stored,) = vault.written
    assert (stored["refresh_token"], stored["access_token"], stored["redeeming"]) == ("R-1", "", "")
    assert noted == [("g", "R-1")]


async def test_the_provider_is_discovered_before_the_lease_is_taken() -> None:
    """A lease is long enough for one request to the provider. Who needed two of them would outlive it, and redeem a
    token that another redeems at the same time.
    """
    steps: list[str] = []
    vault = Vault()
    held = StoredTokens("R-0", 60, time.time())

    async def read(path: str) -> Any:
        return SimpleNamespace(data=held.write(), version=vault.version)

    async def write(path: str, data: dict[str, Any], *, cas: int) -> int:
        steps.append("lease" if data["redeeming"] else "store")
        return cas + 1

    async def discover() -> None:
        steps.append("discover")

    async def refresh(_: str) -> TokenSet:
        steps.append("refresh")
        return TokenSet("A-1", time.time() + 60, 60, "R-1", 60)

    async def note(*_: Any) -> None:
        return None

    refresher = TokenRefresher(
        SimpleNamespace(read=read, write=write),  # type: ignore[arg-type]
        SimpleNamespace(refresh=refresh, discover=discover),  # type: ignore[arg-type]
        lease=30,
        default_lifetime=60,
        on_refresh=note,
        on_dead=note,
    )
    assert (await refresher.access("g")).token == "A-1"
    assert steps == ["discover", "lease", "refresh", "store"]
