"""Grants as a broker keeps them: real OpenBao behind a proxy that lies on demand, SQL, and an OAuth server with strict
rotation that answers wrongly on demand. All in the test's own event loop.
"""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from gdi.contracts.grants import Grant, GrantRequest
from gdi.kit.problem import ProblemError
from gdi.local_federation.openbao import OpenBao
from gdi.oauth.client import OAuthClient
from gdi.oauth.client_auth.rfc6749 import ClientSecretBasic
from gdi.oauth.connection import ProviderConnection
from gdi.oauth.session import shared_client
from tests.support.scripted_provider import ScriptedProvider, scripted_provider
from tests.support.vault_proxy import VaultProxy, vault_proxy
from token_broker.audit import Audit
from token_broker.broker import signing_key
from token_broker.db.store import BrokerDatabase
from token_broker.db.store import grants as grants_table
from token_broker.grants.grants import Grants
from token_broker.tokens import vault as vault_module
from token_broker.tokens.token_refresher import TokenRefresher
from token_broker.tokens.vault import Vault
from token_broker.tokens.vault_login import AppRole


@dataclass
class StrictProvider:
    """Each refresh token is good once. `instead`: answers (status, JSON or text) by endpoint, each given once before
    the right ones; `always`: those that come every time.
    """

    server: ScriptedProvider
    active: set[str] = field(default_factory=set)
    instead: dict[str, list[tuple[int, Any]]] = field(default_factory=dict)
    always: dict[str, tuple[int, Any]] = field(default_factory=dict)
    more: dict[str, Any] = field(default_factory=dict)  # in each token answer
    refreshed: list[str] = field(default_factory=list)
    revoked: list[str] = field(default_factory=list)
    replayed: list[str] = field(default_factory=list)
    made: int = 0

    def tokens(self) -> dict[str, Any]:
        self.made += 1
        self.active.add(f"R-{self.made}")
        found = {
            "access_token": f"A-{self.made}",
            "refresh_token": f"R-{self.made}",
            "token_type": "Bearer",
            "expires_in": 60,
            "refresh_expires_in": 3600,
            **self.more,
        }
        return {name: value for name, value in found.items() if value is not None}

    async def handle(self, request: web.Request) -> web.Response:
        form, name = self.server.received[-1].form, request.path.strip("/")
        if waiting := self.instead.get(name):
            return _answer(waiting.pop(0))
        if name in self.always:
            return _answer(self.always[name])
        if name == "introspection":
            return _answer((200, {"active": form["token"] in self.active}))
        if name == "revocation":
            self.active.discard(form["token"])
            self.revoked.append(form["token"])
            return _answer((200, ""))
        if form["grant_type"] == "refresh_token":
            token = form["refresh_token"]
            if token not in self.active:
                self.replayed.append(token)
                return _answer((400, {"error": "invalid_grant"}))
            self.active.discard(token)
            self.refreshed.append(token)
        return _answer((200, self.tokens()))


def _answer(answer: tuple[int, Any]) -> web.Response:
    status, body = answer
    text = body if isinstance(body, str) else json.dumps(body)
    return web.Response(status=status, text=text, headers={"content-type": "application/json"})


@dataclass
class Kept:
    """One broker's parts, and `grant` to make a grant of them."""

    bao: OpenBao
    proxy: VaultProxy
    provider: StrictProvider
    vault: Vault
    grants: Grants
    refresher: TokenRefresher
    store: BrokerDatabase
    user: str = "user-0"

    async def anew(self) -> Kept:
        """Without faults, grants and memory of before."""
        async with self.store.write() as c:
            await c.execute(grants_table.update().values(revoke_due=None))
        self.proxy.faults, self.proxy.log[:] = [], []
        self.provider.__dict__.update(StrictProvider(self.provider.server).__dict__)
        self.provider.server.answers = [self.provider.handle]
        self.user = f"user-{secrets.token_hex(4)}"
        return self

    async def grant(self, *, stale: bool = True) -> str:
        """An active grant; `stale`: its access token serves no more, so that the next question refreshes."""
        request = GrantRequest(workflows=["w"], datasets=["D"], expires_at=time.time() + 86400)
        grant = (await self.grants.create(self.user, "A-0", request)).id
        if stale:
            await self.age(grant, access_expires_at=0)
        return grant

    async def age(self, grant: str, **changes: Any) -> None:
        """Changes the grant's record in OpenBao, as time or another replica would."""
        path = f"/v1/gdi/data/grants/{grant}"
        with self.bao.as_operator() as operator:
            found = operator.get(path).json()["data"]
            body = {"data": {**found["data"], **changes}, "options": {"cas": found["metadata"]["version"]}}
            operator.post(path, json=body).raise_for_status()
        self.refresher.forget(grant)

    def record(self, grant: str) -> dict[str, Any] | None:
        with self.bao.as_operator() as operator:
            found = operator.get(f"/v1/gdi/data/grants/{grant}")
        data: dict[str, Any] | None = found.json()["data"]["data"] if found.status_code == 200 else None
        return data

    async def shown(self, grant: str) -> Grant:
        return await self.grants.get(grant, self.user)

    async def due_now(self, grant: str) -> None:
        """What waits for a later try of the revocation is tried at the next call."""
        due = grants_table.c.revoke_due
        async with self.store.write() as c:
            await c.execute(grants_table.update().where(grants_table.c.id == grant, due > 0).values(revoke_due=1.0))


@asynccontextmanager
async def kept_grants(
    bao: OpenBao, folder: Path, monkeypatch: pytest.MonkeyPatch, *, lease: float = 30
) -> AsyncIterator[Kept]:
    """Vault's second reading comes at once, and an unusable answer is asked for twice."""
    monkeypatch.setattr(vault_module, "SECOND_READING", 0.0)
    monkeypatch.setattr(vault_module, "TRIES", 2)
    async with vault_proxy(bao.url) as proxy, scripted_provider() as server, shared_client() as http:
        provider = StrictProvider(server)
        server.answers = [provider.handle]
        connection = ProviderConnection(http, server.url, "broker", ClientSecretBasic(lambda: "s"), timeout=5)
        oidc = OAuthClient(connection)
        vault = Vault(proxy.url, bao.mount, AppRole(bao.role_id_file, bao.secret_id_file))
        await signing_key(vault)
        store = BrokerDatabase.open(f"sqlite+aiosqlite:///{folder / 'broker.db'}")
        await store.create()
        grants = Grants(store, oidc, Audit(store), 366)
        grants.refresher = TokenRefresher(
            vault, oidc, lease=lease, default_lifetime=3600, on_refresh=grants.on_refresh, on_dead=grants.on_dead
        )
        try:
            yield Kept(bao, proxy, provider, vault, grants, grants.refresher, store)
        finally:
            await grants.refresher.drain(5)
            await store.close()


async def refused(kept: Kept, grant: str) -> ProblemError:
    with pytest.raises(ProblemError) as caught:
        await kept.refresher.access(grant)
    return caught.value
