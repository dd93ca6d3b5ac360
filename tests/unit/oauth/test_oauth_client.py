"""The OAuth client against a server that misbehaves: what is no answer of an OAuth server is never a token and never a
refusal, and no refresh token is lost. Each case is a real request to a real server.
"""

from __future__ import annotations

import asyncio
import base64
import gzip
import subprocess
import sys
import time
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, Literal
from urllib.parse import unquote_plus

import jwt
import pytest
from aiohttp import web

from gdi.kit.jose import SigningKey, TokenError
from gdi.oauth.client import OAuthClient
from gdi.oauth.client_auth.rfc6749 import ClientSecretBasic
from gdi.oauth.connection import ProviderConnection
from gdi.oauth.errors import DENIALS, OAuthDenied, OAuthUnavailable
from gdi.oauth.rfc6749 import TokenSet
from gdi.oauth.rfc7636 import CodeVerifier
from gdi.oauth.rfc8414 import ProviderMetadata
from gdi.oauth.session import MAX_ANSWER, shared_client
from gdi.oauth.token_times import LONGEST_ACCESS
from tests.support.scripted_provider import ScriptedProvider, scripted_provider

CLIENT, SECRET = "our client:1", "s3cr%t+ä:/ word"
GOOD = {
    "access_token": "ACCESS-1",
    "refresh_token": "REFRESH-1",
    "token_type": "Bearer",
    "expires_in": 60,
    "active": True,
}
DEFAULT = 111.0

Call = Callable[[OAuthClient], Awaitable[Any]]
CALLS: dict[str, Call] = {
    "code": lambda c: c.code("CODE-0", CodeVerifier("v" * 43), "https://us/callback"),
    "refresh": lambda c: c.refresh("REFRESH-0"),
    "exchange": lambda c: c.exchange_for_refresh("ACCESS-0"),
    "narrow": lambda c: c.narrow("ACCESS-0", "https://node", lasting=1000),
    "introspect": lambda c: c.introspect("REFRESH-0", "refresh_token"),
    "revoke": lambda c: c.revoke("REFRESH-0"),
    "userinfo": lambda c: c.userinfo("ACCESS-0"),
}
every_call = pytest.mark.parametrize("call", CALLS.values(), ids=CALLS.keys())


@pytest.fixture
async def provider() -> AsyncIterator[ScriptedProvider]:
    async with scripted_provider() as running:
        yield running


@pytest.fixture
async def client(provider: ScriptedProvider) -> AsyncIterator[OAuthClient]:
    async with shared_client() as http:
        yield made(http, provider, lambda: SECRET)


def made(http: Any, provider: ScriptedProvider, secret: Callable[[], str], timeout: float = 5) -> OAuthClient:
    basic = ClientSecretBasic(secret)
    return OAuthClient(ProviderConnection(http, provider.url, CLIENT, basic, timeout=timeout, access_lifetime=DEFAULT))


async def unavailable(call: Call, client: OAuthClient) -> OAuthUnavailable:
    with pytest.raises(OAuthUnavailable) as caught:
        await call(client)
    return caught.value


# --- what is no answer of an OAuth server -------------------------------------------------------


@every_call
@pytest.mark.parametrize(
    ("status", "body"),
    [
        pytest.param(403, {"message": "denied by the firewall"}, id="403-json-without-error"),
        pytest.param(403, GOOD, id="403-with-tokens"),
        pytest.param(403, "<html>Forbidden</html>", id="403-page"),
        pytest.param(404, "<html>Not found</html>", id="404-page"),
        pytest.param(401, "", id="401-empty"),
        pytest.param(400, {"error": "temporarily_unavailable"}, id="later"),
        pytest.param(400, {"error": "our_proxy_is_full"}, id="unknown-error"),
        pytest.param(400, {"error": ["invalid_grant"]}, id="error-is-no-string"),
        pytest.param(502, {"error": "invalid_grant"}, id="502-of-a-proxy"),
        pytest.param(503, "<html>Maintenance</html>", id="503-page"),
    ],
)
async def test_only_an_oauth_servers_own_error_is_a_refusal(
    provider: ScriptedProvider, client: OAuthClient, call: Call, status: int, body: object
) -> None:
    provider.answer(body, status)
    error = await unavailable(call, client)
    assert error.sent, "a request that was sent may have had its effect: recovery has to find out"


@every_call
async def test_a_rate_limiters_json_is_no_token_and_nothing_was_done(
    provider: ScriptedProvider, client: OAuthClient, call: Call
) -> None:
    provider.answer({"message": "slow down", **GOOD}, 429)
    assert not (await unavailable(call, client)).sent


@every_call
async def test_a_redirect_is_neither_followed_nor_a_token(
    provider: ScriptedProvider, client: OAuthClient, call: Call
) -> None:
    provider.answer(GOOD, 302, location=provider.url + "/elsewhere")
    await unavailable(call, client)
    assert "/elsewhere" not in {r.path for r in provider.received}


@every_call
async def test_an_oauth_servers_refusal_is_known_by_its_code(
    provider: ScriptedProvider, client: OAuthClient, call: Call
) -> None:
    for code in DENIALS:
        provider.answer({"error": code, "error_description": "REFRESH-0 is bad"}, 400)
        with pytest.raises(OAuthDenied) as caught:
            await call(client)
        assert caught.value.code == code and "REFRESH-0" not in str(caught.value)


async def test_a_resource_refuses_in_its_header(provider: ScriptedProvider, client: OAuthClient) -> None:
    provider.answer("", 401, WWW_Authenticate='Bearer realm="x", error="invalid_token", error_description="ended"')
    with pytest.raises(OAuthDenied, match="invalid_token"):
        await client.userinfo("ACCESS-0")


@pytest.mark.parametrize("body", ["[]", "null", "nonsense", "", "[" * 100_000, '{"access_token": ""}', "{}"])
@pytest.mark.parametrize("call", [CALLS["code"], CALLS["refresh"], CALLS["exchange"], CALLS["narrow"]])
async def test_an_answer_without_a_token_is_none(
    provider: ScriptedProvider, client: OAuthClient, call: Call, body: str
) -> None:
    provider.answer(body)
    assert (await unavailable(call, client)).sent


@pytest.mark.parametrize("token", [7, None, ["x"], "", "a\u00e4", "a\nb", "x" * 70_000])
async def test_a_token_that_no_header_could_carry_is_none(
    provider: ScriptedProvider, client: OAuthClient, token: object
) -> None:
    provider.answer({**GOOD, "access_token": token, "refresh_token": token})
    await unavailable(CALLS["refresh"], client)


async def test_a_revocation_succeeds_whatever_its_body_is(provider: ScriptedProvider, client: OAuthClient) -> None:
    for body in ("", "OK", "{}"):
        provider.answer(body)
        await client.revoke("REFRESH-0")
    assert provider.received[0].form == {"token": "REFRESH-0", "token_type_hint": "refresh_token"}


# --- tokens first, times after ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("expires_in", "lifetime"),
    [
        ("", DEFAULT),
        ('"expires_in": 60', 60),
        ('"expires_in": "60"', 60),
        ('"expires_in": 0.5', 1),
        ('"expires_in": "3600s"', DEFAULT),
        ('"expires_in": "never"', DEFAULT),
        ('"expires_in": "x"', DEFAULT),
        ('"expires_in": null', DEFAULT),
        ('"expires_in": true', DEFAULT),
        ('"expires_in": [60]', DEFAULT),
        ('"expires_in": {}', DEFAULT),
        ('"expires_in": 0', DEFAULT),
        ('"expires_in": -5', DEFAULT),
        ('"expires_in": 1e400', DEFAULT),
        ('"expires_in": -1e400', DEFAULT),
        ('"expires_in": NaN', DEFAULT),
        ('"expires_in": "nan"', DEFAULT),
        ('"expires_in": 1e300', LONGEST_ACCESS),
        ('"expires_in": ' + "9" * 4000, DEFAULT),
        ('"expires_in": 60, "expires_at": 1e400', 60),
        ('"expires_in": 60, "expires_at": "x"', 60),
        ('"expires_in": 60, "expires_at": [1]', 60),
        ('"expires_in": 60, "refresh_expires_in": "never"', 60),
        ('"expires_in": 60, "refresh_expires_in": 1e400', 60),
        ('"expires_in": 60, "refresh_expires_in": 0', 60),
    ],
)
async def test_a_new_refresh_token_is_kept_whatever_the_times_are(
    provider: ScriptedProvider, client: OAuthClient, expires_in: str, lifetime: float
) -> None:
    fields = f'"access_token": "ACCESS-1", "refresh_token": "REFRESH-1", {expires_in}'.rstrip(", ")
    provider.answer("{" + fields + "}")
    found: TokenSet = await client.refresh("REFRESH-0")
    assert (found.refresh_token, found.access_token) == ("REFRESH-1", "ACCESS-1")
    assert found.access_lifetime == lifetime and found.refresh_expires_in is None
    assert abs(found.access_expires_at - time.time() - lifetime) < 5


@pytest.mark.parametrize("scope", [["openid"], {"openid": True}, 7, "two  spaces", 'a"b'])
async def test_a_scope_that_is_no_string_is_refused_and_the_new_refresh_token_kept(
    provider: ScriptedProvider, client: OAuthClient, scope: object
) -> None:
    provider.answer({**GOOD, "scope": scope})
    found = await client.refresh("REFRESH-0")
    assert (found.access_token, found.refresh_token) == ("", "REFRESH-1") and "RFC 6749" in found.fault
    for name in ("code", "exchange"):
        provider.received.clear()
        assert "RFC 6749" in str(await unavailable(CALLS[name], client))
        assert [(r.path, r.form.get("token")) for r in provider.received][1:] == [("/revocation", "REFRESH-1")], (
            "a refresh token that nobody will ever hold is ended"
        )


async def test_an_exchange_may_put_the_refresh_token_where_the_access_token_is(
    provider: ScriptedProvider, client: OAuthClient
) -> None:
    issued = "urn:ietf:params:oauth:token-type:refresh_token"
    provider.answer({"access_token": "RT", "issued_token_type": issued, "token_type": "N_A", "refresh_expires_in": 9})
    found = await client.exchange_for_refresh("ACCESS-0")
    assert (found.access_token, found.refresh_token, found.refresh_expires_in) == ("", "RT", 9)


async def test_a_narrowing_that_gives_no_access_token_is_refused(
    provider: ScriptedProvider, client: OAuthClient
) -> None:
    provider.answer({"refresh_token": "REFRESH-1"})
    assert "no access token" in str(await unavailable(CALLS["narrow"], client))


def token_for(audience: object) -> str:
    return jwt.encode({"sub": "alice"} | ({} if audience is None else {"aud": audience}), "k" * 32)


@pytest.mark.parametrize("narrows_by", ["audience", "resource"])
async def test_a_narrowing_names_the_node_as_the_provider_takes_it(
    provider: ScriptedProvider, client: OAuthClient, narrows_by: Literal["audience", "resource"]
) -> None:
    """RFC 8693 §2.1 has both; RFC 8707 is `resource`."""
    client = OAuthClient(client._provider, narrows_by)
    for named in ("https://node", ["https://node"]):
        provider.answer({"access_token": token_for(named), "expires_in": 60, "token_type": "Bearer"})
        assert (await client.narrow("ACCESS-0", "https://node", lasting=1000)).access_token == token_for(named)
        form = provider.received[-1].form
        assert {n: form[n] for n in ("audience", "resource") if n in form} == {narrows_by: "https://node"}


@pytest.mark.parametrize(
    "token",
    ["ACCESS-0", *map(token_for, ("token-broker", ["https://node", "https://other"], [], None, ["https://node", 7]))],
    ids=["the-same", "another", "two", "none", "absent", "a-number"],
)
async def test_a_token_that_others_would_take_is_not_passed_on(
    provider: ScriptedProvider, client: OAuthClient, token: str
) -> None:
    """A provider that does not know the parameter answers with a broad token (RFC 6749 §3.2: it ignores it)."""
    provider.answer({"access_token": token, "expires_in": 60, "token_type": "Bearer"})
    with pytest.raises(OAuthDenied, match="no token for https://node alone") as refused:
        await CALLS["narrow"](client)
    assert token not in str(refused.value)


# --- one call, one Authlib client, one bounded transport ----------------------------------------


async def test_no_call_sees_a_token_of_another(provider: ScriptedProvider, client: OAuthClient) -> None:
    """Authlib's client remembers the last token, and gives its refresh token to an answer that has none."""

    async def echo(request: web.Request) -> web.Response:
        given = provider.received[-1].form["refresh_token"]
        await asyncio.sleep(0.01 * (int(given) % 3))
        body = {"access_token": f"A-{given}"} | ({"refresh_token": f"R-{given}"} if int(given) % 2 else {})
        return web.json_response(body)

    provider.answers = [echo]
    found = await asyncio.gather(*(client.refresh(str(n)) for n in range(12)))
    assert [(t.access_token, t.refresh_token) for t in found] == [
        (f"A-{n}", f"R-{n}" if n % 2 else None) for n in range(12)
    ]


async def test_no_cookie_of_the_provider_is_kept(provider: ScriptedProvider, client: OAuthClient) -> None:
    provider.answer(GOOD, set_cookie="session=of-alice; Path=/")
    await client.refresh("REFRESH-0")
    await client.refresh("REFRESH-0")
    assert "Cookie" not in provider.received[1].headers


async def test_basic_credentials_are_form_encoded(provider: ScriptedProvider, client: OAuthClient) -> None:
    provider.answer(GOOD)
    for name in ("code", "refresh", "exchange", "narrow", "introspect", "revoke"):
        await CALLS[name](client)
        scheme, _, value = provider.received[-1].headers["Authorization"].partition(" ")
        pair = base64.b64decode(value).decode("ascii").split(":")
        assert scheme == "Basic" and [unquote_plus(part) for part in pair] == [CLIENT, SECRET], name
        assert "client_secret" not in provider.received[-1].form


async def test_a_rotated_secret_is_used_and_an_unreadable_one_costs_no_grant(provider: ScriptedProvider) -> None:
    secrets = iter(["first", "second"])
    async with shared_client() as http:
        client = made(http, provider, lambda: next(secrets))
        provider.answer(GOOD)
        await client.refresh("REFRESH-0")
        await client.refresh("REFRESH-0")
        assert len({r.headers["Authorization"] for r in provider.received}) == 2
        assert not (await unavailable(CALLS["refresh"], client)).sent, "StopIteration stands for a missing file"


@every_call
@pytest.mark.parametrize("packed", [False, True], ids=["plain", "gzip"])
async def test_an_endless_answer_is_cut(
    provider: ScriptedProvider, client: OAuthClient, call: Call, packed: bool
) -> None:
    written = 0

    async def endless(request: web.Request) -> web.StreamResponse:
        nonlocal written
        answer = web.StreamResponse(headers={"content-type": "application/json"})
        part = b'{"a":"' + b"x" * (4 * MAX_ANSWER if packed else 2**16)
        if packed:
            answer.headers["content-encoding"] = "gzip"
            part = gzip.compress(part)
        await answer.prepare(request)
        try:
            while written < 200 * MAX_ANSWER:
                await answer.write(part)
                written += len(part)
        except ConnectionError:
            pass
        return answer

    provider.answers = [endless]
    assert "too large" in str(await unavailable(call, client))
    assert written < 20 * MAX_ANSWER


async def test_an_answer_that_drips_ends_in_time(provider: ScriptedProvider) -> None:
    async def drip(request: web.Request) -> web.StreamResponse:
        answer = web.StreamResponse()
        await answer.prepare(request)
        try:
            while True:
                await answer.write(b" ")
                await asyncio.sleep(0.05)
        except ConnectionError:
            return answer

    provider.answers = [drip]
    async with shared_client() as http:
        began = time.monotonic()
        error = await unavailable(CALLS["refresh"], made(http, provider, lambda: SECRET, timeout=0.5))
        assert error.sent and time.monotonic() - began < 60  # it would never end


async def test_a_provider_that_is_away_cannot_have_acted(provider: ScriptedProvider, client: OAuthClient) -> None:
    provider.answer(GOOD)
    await client.refresh("REFRESH-0")  # the metadata is known now
    metadata = client._provider._metadata._found
    metadata["token_endpoint"] = "http://127.0.0.1:1/token"
    assert not (await unavailable(CALLS["refresh"], client)).sent


@every_call
async def test_no_secret_is_in_an_error(provider: ScriptedProvider, client: OAuthClient, call: Call) -> None:
    planted = ("REFRESH-0", "ACCESS-0", "CODE-0", "v" * 43, SECRET, "ACCESS-1", "REFRESH-1")
    answers: list[tuple[object, int]] = [
        ({**GOOD, "error": "invalid_grant"}, 400),
        (GOOD, 403),
        ({**GOOD, "error": "ACCESS-1 REFRESH-1"}, 400),
        ('"ACCESS-1 REFRESH-1', 500),
    ]
    for body, status in answers:
        provider.answer(body, status)
        with pytest.raises((OAuthDenied, OAuthUnavailable)) as caught:
            await call(client)
        text = "".join(traceback.format_exception(caught.value)) + repr(caught.value)
        assert [p for p in planted if p in text] == []


def test_no_secret_is_in_a_repr() -> None:
    tokens = TokenSet("ACCESS-1", 0, 0, "REFRESH-1", None, "ID-1")
    text = repr([tokens, CodeVerifier("VERIFIER-1"), ClientSecretBasic(lambda: SECRET)])
    assert not any(p in text for p in ("ACCESS-1", "REFRESH-1", "ID-1", "VERIFIER-1", SECRET))


def test_authlibs_httpx_layer_is_never_loaded() -> None:
    """It takes another HTTP library wherever that is installed; and it warns."""
    code = "import sys, gdi.oauth.client; sys.exit(any('authlib.integrations' in name for name in sys.modules))"
    subprocess.run([sys.executable, "-W", "error::DeprecationWarning", "-c", code], check=True, timeout=60)


@pytest.mark.parametrize(("told", "lifetime"), [({}, 20), ({"expires_in": 60}, 60)])
async def test_a_narrowed_token_of_untold_lifetime_ends_with_the_one_it_was_made_of(
    provider: ScriptedProvider, client: OAuthClient, told: dict[str, int], lifetime: float
) -> None:
    provider.answer({"access_token": "ACCESS-1", "token_type": "Bearer", **told})
    assert (await client.narrow("ACCESS-0", "https://node", lasting=20)).access_lifetime == lifetime


# --- who signed in ------------------------------------------------------------------------------

KEY, NONCE = SigningKey.generate(), "NONCE-1"


@pytest.mark.parametrize(
    ("change", "refused"),
    [
        ({}, ""),
        ({"azp": CLIENT}, ""),
        ({"aud": [CLIENT]}, ""),
        ({"aud": [CLIENT, "other"], "azp": CLIENT}, ""),
        ({"aud": [CLIENT, "other"]}, "another client"),
        ({"aud": [CLIENT, "other"], "azp": "other"}, "another client"),
        ({"nonce": "NONCE-2"}, "another sign-in"),
        ({"nonce": None}, "another sign-in"),
        ({"aud": "other"}, "Audience"),
        ({"azp": "other"}, "another client"),
        ({"iss": "https://elsewhere"}, "issuer"),
        ({"exp": 1}, "expired"),
    ],
)
async def test_an_id_token_is_for_this_client_and_this_sign_in(
    provider: ScriptedProvider, client: OAuthClient, change: dict[str, Any], refused: str
) -> None:
    provider.jwks = [KEY.jwk()]
    claims = {"iss": provider.url, "aud": CLIENT, "sub": "alice", "nonce": NONCE, **change}
    provider.answer({**GOOD, "id_token": KEY.sign({k: v for k, v in claims.items() if v is not None}, lifetime=60)})
    tokens = await client.code("CODE-0", CodeVerifier(), "https://us/callback")
    if refused:
        with pytest.raises(TokenError, match=refused):
            await client.id_token_claims(tokens, NONCE)
    else:
        assert (await client.id_token_claims(tokens, NONCE))["sub"] == "alice"


async def test_a_provider_that_writes_its_issuer_with_a_slash_at_the_end_is_the_same(
    provider: ScriptedProvider, client: OAuthClient
) -> None:
    """LS AAI does; our settings drop it. Its tokens are compared with the name to the letter."""
    provider.issuer, provider.jwks = provider.url + "/", [KEY.jwk()]
    claims = {"aud": CLIENT, "sub": "alice", "nonce": NONCE}
    provider.answer({**GOOD, "id_token": KEY.sign({**claims, "iss": provider.issuer}, lifetime=60)})
    tokens = await client.code("CODE-0", CodeVerifier(), "https://us/callback")
    assert (await client.id_token_claims(tokens, NONCE))["sub"] == "alice"
    provider.answer({**GOOD, "id_token": KEY.sign({**claims, "iss": provider.url}, lifetime=60)})
    tokens = await client.code("CODE-0", CodeVerifier(), "https://us/callback")
    with pytest.raises(TokenError, match="issuer"):
        await client.id_token_claims(tokens, NONCE)


async def test_a_sign_in_without_a_signed_id_token_is_none(provider: ScriptedProvider, client: OAuthClient) -> None:
    provider.jwks = [KEY.jwk()]
    foreign = SigningKey.generate().sign({"iss": provider.url, "aud": CLIENT, "nonce": NONCE}, lifetime=60)
    for id_token in (None, "not.a.token", foreign):
        provider.answer({**GOOD, "id_token": id_token})
        tokens = await client.code("CODE-0", CodeVerifier(), "https://us/callback")
        with pytest.raises(TokenError):
            await client.id_token_claims(tokens, NONCE)


class Metadata:
    """A session that answers with metadata."""

    def __init__(self, **fields: str) -> None:
        self.fields = fields

    async def get(self, _url: str) -> Metadata:
        return self


@pytest.mark.parametrize(
    ("issuer", "endpoint", "taken"),
    [
        ("https://aai.example.org", "https://tokens.example.org/token", True),
        ("https://aai.example.org", "http://aai.example.org/token", False),
        ("https://aai.example.org", "HTTP://aai.example.org/token", False),
        ("https://aai.example.org", "file:///etc/passwd", False),
        ("https://aai.example.org", "//aai.example.org/token", False),
        ("http://127.0.0.1:1/oidc", "http://127.0.0.1:1/token", True),
        ("http://127.0.0.1:1/oidc", "https://aai.example.org/token", True),
    ],
)
async def test_tokens_go_to_no_plain_address_that_metadata_names(issuer: str, endpoint: str, taken: bool) -> None:
    session = Metadata(issuer=issuer, token_endpoint=endpoint)
    metadata = ProviderMetadata(session, issuer)  # type: ignore[arg-type]
    if taken:
        assert await metadata.url("token_endpoint") == endpoint
    else:
        with pytest.raises(OAuthUnavailable, match="token_endpoint is no https address") as caught:
            await metadata.url("token_endpoint")
        assert not caught.value.sent
