"""The OAuth client at a real Keycloak with `private_key_jwt`: the code with PKCE and nonce, refresh, introspection,
revocation, for both kinds of key.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator
from urllib.parse import parse_qs, urlsplit

import pytest
from joserfc.jwk import ECKey, RSAKey

from gdi.local_federation.openbao import OpenBao
from gdi.oauth.client import OAuthClient
from gdi.oauth.client_auth.rfc7523 import PrivateKeyJwt, public_jwks
from gdi.oauth.connection import ProviderConnection
from gdi.oauth.errors import OAuthDenied
from gdi.oauth.rfc7636 import CodeVerifier
from gdi.oauth.session import shared_client
from tests.support.broker_kit import REDIRECT
from tests.support.keycloak_kit import Keycloak, KeycloakWorld, login

pytestmark = [pytest.mark.system, pytest.mark.xdist_group("system-keycloak")]
pytest_plugins = ["tests.support.broker_fixtures"]
KEYS = {"ES256": ECKey.generate_key("P-256"), "RS256": RSAKey.generate_key(2048)}


@pytest.fixture(scope="module")
def world(keycloak: Keycloak, openbao: OpenBao, tmp_path_factory: pytest.TempPathFactory) -> Iterator[KeycloakWorld]:
    made = KeycloakWorld(tmp_path_factory.mktemp("keycloak-oauth"), openbao, keycloak, access=60)
    yield made
    made.stop()


@pytest.mark.parametrize("algorithm", KEYS)
async def test_keycloak_takes_the_key_in_place_of_a_secret_at_each_endpoint(
    world: KeycloakWorld, algorithm: str
) -> None:
    pem, client_id = KEYS[algorithm].as_pem(private=True), f"keyed-{algorithm.lower()}"
    registered = {
        "clientId": client_id,
        "clientAuthenticatorType": "client-jwt",
        "redirectUris": [REDIRECT],
        "attributes": {
            "use.jwks.string": "true",
            "jwks.string": json.dumps(public_jwks(pem)),
            "token.endpoint.auth.signing.alg": algorithm,
            "pkce.code.challenge.method": "S256",
        },
        "defaultClientScopes": ["basic"],
        "optionalClientScopes": ["offline_access"],
    }
    world.keycloak.api("POST", f"/{world.realm}/clients", registered)
    verifier, state, nonce = CodeVerifier(), secrets.token_hex(8), secrets.token_hex(8)
    async with shared_client(timeout=30) as http:
        client = OAuthClient(ProviderConnection(http, world.issuer, client_id, PrivateKeyJwt(lambda: pem), timeout=30))
        url = await client.sign_in_url(
            redirect_uri=REDIRECT, scope="openid offline_access", state=state, nonce=nonce, verifier=verifier
        )
        back = parse_qs(urlsplit(login(url, "alice", world.secrets["alice"])).query)
        assert back["state"] == [state]
        tokens = await client.code(back["code"][0], verifier, REDIRECT)
        assert (await client.id_token_claims(tokens, nonce))["sub"] == world.subs["alice"]
        assert tokens.refresh_token and 0 < tokens.access_lifetime <= 60
        newer = await client.refresh(tokens.refresh_token)
        assert newer.refresh_token and newer.refresh_token != tokens.refresh_token
        assert (await client.userinfo(newer.access_token))["sub"] == world.subs["alice"]
        assert (await client.introspect(newer.refresh_token, "refresh_token"))["active"] is True
        await client.revoke(newer.refresh_token)
        assert (await client.introspect(newer.refresh_token, "refresh_token"))["active"] is False
        for call in (client.refresh(newer.refresh_token), client.userinfo(newer.access_token)):
            with pytest.raises(OAuthDenied) as caught:
                await call
            assert caught.value.code in ("invalid_grant", "invalid_token")
