"""A sign-in comes back: from the provider that was asked, for the user that both its answers name; else nothing of it
stays.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from starlette.requests import Request

from gdi.kit.jose import SigningKey
from gdi.kit.problem import ProblemError
from gdi.kit.web import Cookies
from gdi.oauth.client import OAuthClient
from gdi.oauth.client_auth.rfc6749 import ClientSecretBasic
from gdi.oauth.connection import ProviderConnection
from gdi.oauth.session import shared_client
from gdi.oauth.sign_in import SignedIn, SignIn
from tests.support.scripted_provider import ScriptedProvider, scripted_provider

CLIENT, COOKIE, US = "us", "waiting", "https://us.example.org"
KEY = SigningKey.generate()
NO_SESSIONS: Any = None  # a sign-in under way is no session


@pytest.fixture
async def provider() -> AsyncIterator[ScriptedProvider]:
    async with scripted_provider() as running:
        running.jwks = [KEY.jwk()]
        yield running


async def signed_in(provider: ScriptedProvider, *, named: str = "alice", iss: str = "") -> SignedIn:
    """The whole sign-in of a browser. The ID token is of alice, userinfo of `named`."""
    async with shared_client() as http:
        client = OAuthClient(ProviderConnection(http, provider.url, CLIENT, ClientSecretBasic(lambda: "x"), timeout=5))
        cookies = Cookies(SigningKey.generate(), US, "/connect", {COOKIE: 60}, NO_SESSIONS)
        callback = f"{US}/connect/callback"
        flow = SignIn(client, cookies, cookie=COOKIE, callback=callback, scope="openid", provider="The provider")
        away = await flow.start({"kept": "this"})
        asked = parse_qs(urlsplit(away.headers["location"]).query)
        issuer = provider.issuer or provider.url
        claims = {"iss": issuer, "aud": CLIENT, "sub": "alice", "nonce": asked["nonce"][0]}
        provider.answer({"sub": named})  # and whatever is asked after that
        tokens = {"access_token": "A-1", "refresh_token": "R-1", "token_type": "Bearer", "expires_in": 60}
        userinfo = provider.answers.pop()
        provider.answer({**tokens, "id_token": KEY.sign(claims, lifetime=60)})
        provider.answers.append(userinfo)
        cookie = away.headers["set-cookie"].partition(";")[0]
        request = Request({"type": "http", "headers": [(b"cookie", cookie.encode())]})
        return await flow.finish(request, state=asked["state"][0], code="CODE", iss=iss)


@pytest.mark.parametrize("slash", ["", "/"])
async def test_the_issuer_may_be_written_with_a_slash_at_its_end(provider: ScriptedProvider, slash: str) -> None:
    provider.issuer = provider.url + slash
    found = await signed_in(provider, iss=provider.issuer)
    assert (found.user, found.kept) == ("alice", {"kept": "this"})
    assert "/revocation" not in {r.path for r in provider.received}


async def test_what_another_provider_sends_back_is_not_looked_at(provider: ScriptedProvider) -> None:
    with pytest.raises(ProblemError, match="not started in this browser"):
        await signed_in(provider, iss="https://elsewhere.example.org")
    assert provider.received == []


async def test_a_response_without_the_promised_iss_is_refused_and_its_code_not_redeemed(
    provider: ScriptedProvider,
) -> None:
    provider.promises_iss = True
    with pytest.raises(ProblemError, match=r"without its name \(iss\)"):
        await signed_in(provider)
    assert provider.received == []
    assert (await signed_in(provider, iss=provider.url)).user == "alice"


async def test_a_sign_in_that_fails_leaves_no_refresh_token_at_the_provider(provider: ScriptedProvider) -> None:
    with pytest.raises(ProblemError, match="did not say who you are"):
        await signed_in(provider, named="mallory")
    assert [r.form.get("token") for r in provider.received if r.path == "/revocation"] == ["R-1"]
