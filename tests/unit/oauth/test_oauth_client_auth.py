"""`private_key_jwt`: what the client signs, and which keys it takes."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import jwt
import pytest
from joserfc.jwk import ECKey, OctKey, RSAKey

from gdi.kit.settings import SettingsError
from gdi.oauth.client import OAuthClient
from gdi.oauth.client_auth import rfc7523
from gdi.oauth.connection import ProviderConnection
from gdi.oauth.session import shared_client
from tests.support.scripted_provider import scripted_provider

EC, RSA = ECKey.generate_key("P-256"), RSAKey.generate_key(2048)
KEYS = {
    "ec-pem": (EC.as_pem(private=True), "ES256"),
    "ec-jwk": (json.dumps(EC.as_dict(private=True) | {"kid": "mine"}).encode(), "ES256"),
    "rsa-pem": (RSA.as_pem(private=True), "RS256"),
    "rsa-jwk": (json.dumps(RSA.as_dict(private=True)).encode(), "RS256"),
}


@pytest.mark.parametrize(("key", "algorithm"), KEYS.values(), ids=KEYS.keys())
async def test_each_call_carries_a_new_short_lived_assertion_for_the_token_endpoint(key: bytes, algorithm: str) -> None:
    (public,) = rfc7523.public_jwks(key)["keys"]
    assert "d" not in public and public["alg"] == algorithm
    seen: set[str] = set()
    async with scripted_provider() as provider, shared_client() as http:
        client = OAuthClient(ProviderConnection(http, provider.url, "us", rfc7523.PrivateKeyJwt(lambda: key)))
        provider.answer({"access_token": "A", "active": True})
        calls = [client.refresh("R"), client.narrow("B", "n", lasting=60), client.introspect("R"), client.revoke("R")]
        for call in calls:
            await call
            received = provider.received[-1]
            assert received.form["client_assertion_type"].endswith(":jwt-bearer")
            assert "Authorization" not in received.headers and "client_secret" not in received.form
            assertion = received.form["client_assertion"]
            assert jwt.get_unverified_header(assertion)["kid"] == public["kid"]
            claims = jwt.decode(
                assertion, jwt.PyJWK(public), algorithms=[algorithm], audience=provider.url + "/token", issuer="us"
            )
            assert claims["sub"] == "us" and 0 < claims["exp"] - time.time() <= 60
            seen.add(claims["jti"])
    assert len(seen) == len(calls), "an assertion is good once"


def test_the_kid_is_the_keys_own_or_its_thumbprint() -> None:
    (named,) = rfc7523.public_jwks(KEYS["ec-jwk"][0])["keys"]
    (unnamed,) = rfc7523.public_jwks(KEYS["ec-pem"][0])["keys"]
    assert named["kid"] == "mine" and unnamed["kid"] == EC.thumbprint()


@pytest.mark.parametrize(
    "key",
    [
        pytest.param(b"nonsense PRIVATE-PART", id="nonsense"),
        pytest.param(b"", id="empty"),
        pytest.param(b'{"kty": "EC", "d": "PRIVATE-PART"', id="half-a-jwk"),
        pytest.param(b'{"kty": "EC", "crv": "P-256", "x": "x", "y": "y", "d": "PRIVATE-PART"}', id="wrong-jwk"),
        pytest.param(b"{}", id="no-jwk"),
        pytest.param(EC.as_pem(private=False), id="public"),
        pytest.param(json.dumps(EC.as_dict(private=False)).encode(), id="public-jwk"),
        pytest.param(EC.as_pem(private=True, password="x"), id="with-a-password"),
        pytest.param(ECKey.generate_key("P-384").as_pem(private=True), id="another-curve"),
        pytest.param(RSAKey.generate_key(1024).as_pem(private=True), id="a-short-key"),
        pytest.param(json.dumps(OctKey.generate_key(256).as_dict(private=True)).encode(), id="a-secret"),
    ],
)
def test_a_key_that_is_not_fit_is_refused_without_being_shown(key: bytes) -> None:
    with pytest.raises(ValueError, match="an EC key on P-256") as caught:
        rfc7523.load(key)
    assert "PRIVATE-PART" not in repr(caught.value) + repr(caught.value.__cause__)


BROKER: dict[str, Any] = {
    "public_url": "http://127.0.0.1:1",
    "vault_addr": "http://127.0.0.1:1",
    "oidc_issuer": "http://127.0.0.1:1/oidc",
    "client_id": "us",
    "database_url": "sqlite+aiosqlite:///x",
    "enrolment_file": Path("x"),
}


def test_broker_and_gateway_take_a_key_in_place_of_a_secret_and_check_it_at_start(tmp_path: Path) -> None:
    from node_gateway import settings as node
    from node_gateway.review import sign_in
    from token_broker import settings as broker

    files = {name: tmp_path / name for name in ("key", "secret", "wrong")}
    for name, text in {"key": KEYS["ec-pem"][0], "secret": b"s3cret", "wrong": b"PRIVATE-PART"}.items():
        files[name].write_bytes(text)
        files[name].chmod(0o600)
    for name, method in {"key": "private_key_jwt", "secret": "client_secret_basic"}.items():
        for_broker = broker.Settings(**BROKER, **{f"client_{name}_file": files[name]})
        assert for_broker.client_authentication().method == method
        for_node = node.Settings.model_construct(**{f"oidc_client_{name}_file": files[name]})
        found = sign_in.client_authentication(for_node)
        assert found is not None and found.method == method
    with pytest.raises(SettingsError, match="CLIENT_KEY_FILE") as caught:
        broker.Settings(**BROKER, client_key_file=files["wrong"]).client_authentication()
    assert "PRIVATE-PART" not in str(caught.value)
    with pytest.raises(SettingsError, match="CLIENT_KEY_FILE"):
        sign_in.client_authentication(node.Settings.model_construct(oidc_client_key_file=files["wrong"]))


@pytest.mark.parametrize("given", [{}, {"client_key_file": Path("k"), "client_secret_file": Path("s")}])
def test_the_broker_authenticates_in_one_way(given: dict[str, Any]) -> None:
    from token_broker.settings import Settings

    with pytest.raises(ValueError, match="not both"):
        Settings(**BROKER, **given)
