"""The OAuth client against the LS AAI stand-in, end to end, with a secret and with a key of its own; and what the
stand-in refuses of a client assertion.
"""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest

from gdi.kit.jose import SigningKey
from gdi.kit.secret_files import write_private
from gdi.kit.settings import SettingsError
from gdi.local_federation.aai.client import submit_login
from gdi.local_federation.aai.running import BROKER, REDIRECT, RunningAai, running_aai
from gdi.oauth.client import SCOPE, OAuthClient
from gdi.oauth.client_auth import ClientAuthentication
from gdi.oauth.client_auth.rfc6749 import ClientSecretBasic
from gdi.oauth.client_auth.rfc7523 import PrivateKeyJwt, public_jwks
from gdi.oauth.connection import ProviderConnection
from gdi.oauth.errors import OAuthDenied, OAuthUnavailable
from gdi.oauth.rfc7636 import CodeVerifier
from gdi.oauth.session import shared_client
from tests.support.wire import held
from tests.support.wires import OAUTH

KEYED, KEY = "keyed-client", SigningKey.generate()


@pytest.fixture(scope="module")
def aai(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningAai]:
    folder = tmp_path_factory.mktemp("aai")
    client = {
        "id": KEYED,
        "jwks_file": str(write_private(folder / "jwks.json", json.dumps(public_jwks(KEY.pem())))),
        "redirect_uris": [REDIRECT],
        "grants": ["authorization_code", "refresh_token", "token_exchange"],
        "introspect": True,
    }
    with running_aai(folder, clients=[client]) as running:
        yield running


@pytest.fixture(params=["client_secret_basic", "private_key_jwt"])
async def client(aai: RunningAai, request: pytest.FixtureRequest) -> AsyncIterator[OAuthClient]:
    ways: dict[str, tuple[str, ClientAuthentication]] = {
        "client_secret_basic": (BROKER, ClientSecretBasic(lambda: aai.secret(BROKER))),
        "private_key_jwt": (KEYED, PrivateKeyJwt(KEY.pem)),
    }
    client_id, authentication = ways[request.param]
    assert authentication.method == request.param
    async with shared_client() as http:
        yield OAuthClient(ProviderConnection(http, aai.issuer, client_id, authentication))


async def test_a_grants_whole_life(aai: RunningAai, client: OAuthClient) -> None:
    verifier, state, nonce = CodeVerifier(), secrets.token_hex(8), secrets.token_hex(8)
    url = await client.sign_in_url(redirect_uri=REDIRECT, scope=SCOPE, state=state, nonce=nonce, verifier=verifier)
    with httpx.Client(trust_env=False, timeout=30) as browser:
        back = parse_qs(urlsplit(submit_login(browser, url, "alice", aai.secrets.read("user-alice"))).query)
    assert back["state"] == [state]
    tokens = await client.code(back["code"][0], verifier, REDIRECT)
    sub = (await client.userinfo(tokens.access_token))["sub"]
    assert (await client.id_token_claims(tokens, nonce))["sub"] == sub
    assert tokens.refresh_token and tokens.refresh_expires_in == 3600 and 0 < tokens.access_lifetime <= 600
    assert (await client.introspect(tokens.refresh_token, "refresh_token"))["active"] is True
    newer = await client.refresh(tokens.refresh_token)
    assert newer.refresh_token and newer.refresh_token != tokens.refresh_token
    narrow = await client.narrow(newer.access_token, "https://node", lasting=60)
    assert (await client.introspect(narrow.access_token))["aud"] == ["https://node"] and not narrow.refresh_token
    portal = aai.sign_in("alice")
    own = await client.exchange_for_refresh(portal.access_token)
    assert own.refresh_token and not own.access_token
    await client.revoke(own.refresh_token)
    assert await client.introspect(own.refresh_token, "refresh_token") == {"active": False}
    with pytest.raises(OAuthDenied) as caught:
        await client.refresh(own.refresh_token)
    assert caught.value.code == "invalid_grant"


async def test_a_proxys_page_before_the_provider_is_no_refusal(aai: RunningAai, client: OAuthClient) -> None:
    own = await client.exchange_for_refresh(aai.sign_in("alice").access_token)
    assert own.refresh_token
    for status in (302, 401, 403, 404, 429, 502):
        aai.faults({"path": "/oidc/token", "status": status, "body": "<html>the proxy</html>"})
        with pytest.raises(OAuthUnavailable):
            await client.refresh(own.refresh_token)
    assert (await client.refresh(own.refresh_token)).access_token


def test_its_answers_have_the_form_that_providers_have(aai: RunningAai) -> None:
    tokens = aai.sign_in("alice")
    with httpx.Client(trust_env=False, timeout=30, event_hooks={"response": [held(OAUTH)]}) as http:
        found = http.get(aai.issuer + "/.well-known/openid-configuration").json()
        assert http.get(found["jwks_uri"]).status_code == 200
        basic = httpx.BasicAuth(BROKER, aai.secret(BROKER))
        for token in (tokens.access_token, "unknown"):
            answer = http.post(found["introspection_endpoint"], data={"token": token}, auth=basic)
            assert answer.json()["active"] is (token != "unknown")
        kind = "urn:ietf:params:oauth:token-type:"
        form = {"grant_type": "urn:ietf:params:oauth:grant-type:token-exchange", "subject_token": tokens.access_token}
        form |= {"subject_token_type": kind + "access_token", "requested_token_type": kind + "refresh_token"}
        answer = http.post(found["token_endpoint"], data=form, auth=basic)
        assert answer.status_code == 200, answer.text


def test_discovery_names_what_is_accepted(aai: RunningAai) -> None:
    found = httpx.get(aai.issuer + "/.well-known/openid-configuration", trust_env=False, timeout=30).json()
    for endpoint in ("token", "introspection", "revocation"):
        assert "private_key_jwt" in found[f"{endpoint}_endpoint_auth_methods_supported"]
        assert found[f"{endpoint}_endpoint_auth_signing_alg_values_supported"] == ["ES256", "RS256"]


def introspect(aai: RunningAai, assertion: str, **changes: str) -> tuple[int, str]:
    kind = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
    form = {"token": "x", "client_assertion_type": kind, "client_assertion": assertion, **changes}
    answer = httpx.post(aai.issuer + "/introspect", data=form, trust_env=False, timeout=30)
    return answer.status_code, answer.json().get("error", "")


def assertion(aai: RunningAai, key: SigningKey = KEY, lifetime: float = 60, **changes: Any) -> str:
    kid = public_jwks(KEY.pem())["keys"][0]["kid"]
    claims = {"iss": KEYED, "sub": KEYED, "aud": aai.issuer + "/token", "jti": secrets.token_hex(8), **changes}
    return key.sign({k: v for k, v in claims.items() if v is not None}, lifetime=lifetime, headers={"kid": kid})


def test_a_client_assertion_is_good_once(aai: RunningAai) -> None:
    good = assertion(aai)
    assert introspect(aai, good) == (200, "")
    assert introspect(aai, good) == (401, "invalid_client")


@pytest.mark.parametrize(
    "changes",
    [
        {"iss": BROKER, "sub": BROKER},
        {"sub": "somebody"},
        {"aud": "https://elsewhere/token"},
        {"exp": int(time.time()) - 60},
        {"lifetime": 3600.0},
        {"key": SigningKey.generate()},
        {"jti": 7},
    ],
    ids=lambda changes: "-".join(changes),
)
def test_a_wrong_client_assertion_is_refused(aai: RunningAai, changes: dict[str, Any]) -> None:
    assert introspect(aai, assertion(aai, **changes)) == (401, "invalid_client")


def test_a_client_with_a_key_has_no_other_way_in(aai: RunningAai) -> None:
    for auth in ((KEYED, ""), (KEYED, "guess")):
        answer = httpx.post(aai.issuer + "/introspect", data={"token": "x"}, auth=auth, trust_env=False, timeout=30)
        assert (answer.status_code, answer.json()["error"]) == (401, "invalid_client")
    bare = httpx.post(aai.issuer + "/revoke", data={"token": "x", "client_id": KEYED}, trust_env=False, timeout=30)
    assert bare.status_code == 401
    assert introspect(aai, assertion(aai), client_secret="x") == (400, "invalid_request")
    assert introspect(aai, assertion(aai), client_assertion_type="x") == (401, "invalid_client")
    assert introspect(aai, assertion(aai), client_id=BROKER) == (401, "invalid_client"), "it has a secret, no key"


def test_a_jwk_set_with_a_private_key_is_not_taken(tmp_path: Path) -> None:
    from gdi.local_federation.aai.config import read_jwks

    private = {**KEY.jwk(), "d": "PRIVATE-PART"}
    for text in (json.dumps({"keys": [private]}), '{"keys": []}', "{}", "nonsense", '{"keys": "x"}'):
        file = tmp_path / "jwks.json"
        file.write_text(text)
        with pytest.raises(SettingsError) as caught:
            read_jwks(file, "client x")
        assert "PRIVATE-PART" not in str(caught.value)
