"""The OpenID provider's endpoints: discovery, keys, token, introspection, revocation, userinfo, operator's counters."""

from __future__ import annotations

import base64
import hashlib
import re
import time
from collections.abc import Collection
from typing import Any
from urllib.parse import parse_qsl

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse

from gdi.kit import jose, server
from gdi.local_federation.aai import application_routes, authorize, clients, device, oauth, rems
from gdi.local_federation.aai.applications import Applications
from gdi.local_federation.aai.config import SCOPES, AaiConfig, Client
from gdi.local_federation.aai.faults import Faults
from gdi.local_federation.aai.keys import RsaKey
from gdi.local_federation.aai.oauth import OAuthError
from gdi.local_federation.aai.store import AaiStore
from gdi.local_federation.aai.tokens import Issuer

DEVICE_GRANT = "urn:ietf:params:oauth:grant-type:device_code"
EXCHANGE_GRANT = "urn:ietf:params:oauth:grant-type:token-exchange"
VERIFIER = re.compile(r"^[A-Za-z0-9._~-]{43,128}$")
MAX_BODY = 64 * 1024


def create_app(config: AaiConfig, base: str) -> FastAPI:
    """The application for `config`, reachable at `base` (http://HOST:PORT). Opens the state database and makes the
    keys.
    """
    store = AaiStore(config.state_file)
    issuer = Issuer(config, store, RsaKey.load_or_make(config.key_file), f"{base}/oidc")
    visas = rems.Rems(
        config, store, RsaKey.load_or_make(config.rems_key_file), RsaKey.load_or_make(config.rogue_key_file), base
    )
    visas.seed()
    app = FastAPI(title="LS AAI and REMS stand-in", docs_url=None, redoc_url=None, openapi_url=None)
    server.install(app, max_body=MAX_BODY)
    app.add_exception_handler(OAuthError, on_oauth_error)
    app.include_router(authorize.routes(issuer))
    app.include_router(device.routes(issuer))
    app.include_router(rems.routes(visas))
    applications = Applications(visas)
    app.include_router(application_routes.api(applications))
    app.include_router(application_routes.site(applications, issuer))
    _oidc(app, issuer, visas)
    faults = Faults(config.admin_key)
    app.include_router(faults.routes())
    app.add_middleware(faults.middleware)
    return app


async def on_oauth_error(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, OAuthError)
    return error.response()


def discovery(url: str) -> dict[str, Any]:
    """OpenID Connect Discovery 1.0 §3."""
    methods = ["client_secret_basic", "client_secret_post", "private_key_jwt"]
    algorithms = list(jose.ALGORITHMS)
    return {
        "issuer": url,
        "authorization_endpoint": f"{url}/authorize",
        "token_endpoint": f"{url}/token",
        "device_authorization_endpoint": f"{url}/devicecode",
        "introspection_endpoint": f"{url}/introspect",
        "revocation_endpoint": f"{url}/revoke",
        "userinfo_endpoint": f"{url}/userinfo",
        "jwks_uri": f"{url}/jwk",
        "scopes_supported": list(SCOPES),
        "response_types_supported": ["code"],
        "grant_types_supported": ["authorization_code", "refresh_token", DEVICE_GRANT, EXCHANGE_GRANT],
        "subject_types_supported": ["public"],
        "id_token_signing_alg_values_supported": ["RS256"],
        "token_endpoint_auth_methods_supported": [*methods, "none"],
        "token_endpoint_auth_signing_alg_values_supported": algorithms,
        "introspection_endpoint_auth_methods_supported": methods,
        "introspection_endpoint_auth_signing_alg_values_supported": algorithms,
        "revocation_endpoint_auth_methods_supported": [*methods, "none"],
        "revocation_endpoint_auth_signing_alg_values_supported": algorithms,
        "code_challenge_methods_supported": ["S256"],
        "claims_supported": [
            "sub",
            "iss",
            "aud",
            "exp",
            "iat",
            "name",
            "preferred_username",
            "email",
            "ga4gh_passport_v1",
        ],
        "authorization_response_iss_parameter_supported": True,
        "request_parameter_supported": False,
        "request_uri_parameter_supported": False,
    }


def redeem_code(issuer: Issuer, client: Client, params: dict[str, str]) -> dict[str, Any]:
    """RFC 6749 §4.1.3 with RFC 7636. A code that comes twice takes along what it gave the first time."""
    oauth.need_grant(client, "authorization_code")
    code, verifier = oauth.required(params, "code"), oauth.required(params, "code_verifier")
    found = issuer.store.get_pending("code", code)
    bad = OAuthError(
        "invalid_grant",
        "The code is unknown, ended, used before, or was made for another client, redirect_uri or code_verifier; sign"
        " in again.",
    )
    if found is None:
        raise bad
    body, exp = found
    if body["family"]:
        issuer.revoke_family(body["family"], "authorization code reused")
        issuer.store.count("code_reuse_detected")
        raise bad
    digest = base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()
    proven = bool(VERIFIER.match(verifier)) and oauth.same(digest, body["code_challenge"])
    if (
        exp <= time.time()
        or body["client_id"] != client.id
        or body["redirect_uri"] != params.get("redirect_uri", "")
        or not proven
    ):
        # One try only: whoever holds the code without its verifier must not go on guessing.
        issuer.store.drop_pending("code", code)
        raise bad
    with issuer.store.transaction():
        family = issuer.new_family(body["sub"], client.id, body["auth_time"])
        issuer.store.set_pending("code", code, {**body, "family": family})
        return issuer.answer(
            family, body["sub"], client, body["scope"].split(), nonce=body["nonce"], auth_time=body["auth_time"]
        )


def _oidc(app: FastAPI, issuer: Issuer, visas: rems.Rems) -> None:
    config, store = issuer.config, issuer.store

    @app.get("/oidc/.well-known/openid-configuration")
    async def openid_configuration() -> dict[str, Any]:
        return discovery(issuer.url)

    @app.get("/oidc/jwk")
    async def jwk() -> dict[str, Any]:
        return {"keys": [issuer.key.jwk()]}

    @app.post("/oidc/token")
    async def token(request: Request) -> JSONResponse:
        # `audience` and `resource` alone may be repeated (RFC 8693 §2.1).
        audiences, params = await _token_form(request, config.narrows_by)
        client = clients.authenticate(issuer, request, params)
        grant = oauth.required(params, "grant_type")
        if grant == "authorization_code":
            body = redeem_code(issuer, client, params)
        elif grant == "refresh_token":
            oauth.need_grant(client, "refresh_token")
            body = issuer.refresh(client, oauth.required(params, "refresh_token"), params.get("scope", ""))
        elif grant == DEVICE_GRANT:
            oauth.need_grant(client, "device_code")
            body = device.redeem(issuer, client, oauth.required(params, "device_code"))
        elif grant == EXCHANGE_GRANT:
            oauth.need_grant(client, "token_exchange")
            body = issuer.exchange(client, params, audiences)
        else:
            raise OAuthError("unsupported_grant_type", "This grant_type is not supported; see the discovery document.")
        if not config.tells_lifetimes:
            body = {name: value for name, value in body.items() if name not in ("expires_in", "refresh_expires_in")}
        return JSONResponse(body, headers=oauth.NO_STORE)

    @app.post("/oidc/introspect")
    async def introspect(request: Request) -> JSONResponse:
        params = await oauth.form(request)
        client = clients.authenticate(issuer, request, params)
        if not client.introspect:
            raise OAuthError("unauthorized_client", f"The client {client.id} may not introspect tokens.", 403)
        store.count("introspections", client.id)
        return JSONResponse(issuer.introspect(client, oauth.required(params, "token")), headers=oauth.NO_STORE)

    @app.post("/oidc/revoke")
    async def revoke(request: Request) -> JSONResponse:
        params = await oauth.form(request)
        client = clients.authenticate(issuer, request, params)
        issuer.revoke(client, oauth.required(params, "token"))
        return JSONResponse({}, headers=oauth.NO_STORE)

    @app.api_route("/oidc/userinfo", methods=["GET", "POST"])
    async def userinfo(request: Request) -> JSONResponse:
        access = issuer.read(oauth.bearer(request))
        if access is None:
            raise oauth.bearer_error("invalid_token", "The access token is malformed, ended or revoked.")
        if "openid" not in access.scope:
            raise oauth.bearer_error("insufficient_scope", "The access token lacks the scope openid.", 403)
        store.count("userinfo", access.sub)
        user = config.user(access.sub)
        body: dict[str, Any] = {"sub": access.sub}
        if user is not None and "profile" in access.scope:
            body |= {"name": user.full_name or user.name, "preferred_username": user.name}
        if user is not None and user.email and "email" in access.scope:
            body |= {"email": user.email, "email_verified": True}
        if "ga4gh_passport_v1" in access.scope:
            body["ga4gh_passport_v1"] = visas.visas(access.sub)
        return JSONResponse(body, headers=oauth.NO_STORE)

    @app.get("/oidc/admin/stats")
    async def stats(request: Request) -> JSONResponse:
        if not oauth.same(request.headers.get("x-admin-key", ""), config.admin_key.get_secret_value()):
            raise OAuthError("access_denied", "Send the operator's key: X-Admin-Key.", 401)
        return JSONResponse(store.stats(), headers=oauth.NO_STORE)


async def _token_form(request: Request, names: Collection[str]) -> tuple[list[str], dict[str, str]]:
    """The audiences (`audience` and `resource` may be repeated; of them those of `names`) and the other parameters,
    each once.
    """
    kind = request.headers.get("content-type", "").split(";")[0].strip().lower()
    if kind != "application/x-www-form-urlencoded":
        raise OAuthError("invalid_request", "Send the parameters as application/x-www-form-urlencoded.")
    try:
        pairs = parse_qsl(
            (await request.body()).decode("utf-8"),
            keep_blank_values=True,
            max_num_fields=oauth.MAX_FIELDS,
            errors="strict",
        )
    except ValueError:
        raise OAuthError(
            "invalid_request", "The body is not a form in UTF-8 with a reasonable number of fields."
        ) from None
    audiences = list(dict.fromkeys(v for n, v in pairs if n in names and v))
    return audiences, oauth.single_valued([(n, v) for n, v in pairs if n not in ("audience", "resource")])
