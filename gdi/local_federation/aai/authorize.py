"""The authorization endpoint: a login form, then a code bound to client, redirect URI and PKCE challenge. RFC 6749
§4.1, RFC 7636, RFC 9207.
"""

from __future__ import annotations

import re
import secrets
import time
from urllib.parse import urlencode, urlsplit

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response

from gdi.local_federation.aai import oauth, pages
from gdi.local_federation.aai.config import Client, User
from gdi.local_federation.aai.oauth import OAuthError
from gdi.local_federation.aai.tokens import Issuer

MAX_TRIES = 5
MAX_WAITING = 10_000  # logins that wait at once
CHALLENGE = re.compile(r"^[A-Za-z0-9_-]{43}$")


def sign_in(issuer: Issuer, name: str, password: str) -> User | None:
    """The user, if name and password fit; as slow for an unknown name as for a known one."""
    user = next((u for u in issuer.config.users if u.name == name), None)
    expected = user.password.get_secret_value() if user and user.password else secrets.token_hex(16)
    fits = oauth.same(password, expected)
    return user if fits else None


def with_query(uri: str, params: dict[str, str]) -> str:
    return uri + ("&" if urlsplit(uri).query else "?") + urlencode({k: v for k, v in params.items() if v})


def _target(issuer: Issuer, params: dict[str, str]) -> tuple[Client, str]:
    """Client and redirect URI, exactly as registered; until both are known nothing may be redirected (RFC 6749
    §4.1.2.1).
    """
    client = issuer.config.client(params.get("client_id", ""))
    if client is None:
        raise OAuthError("invalid_request", "The client_id is not registered here.")
    uri = params.get("redirect_uri", "")
    if uri not in client.redirect_uris:
        raise OAuthError("invalid_request", f"The redirect_uri is not one that {client.id} registered.")
    return client, uri


def _checked(client: Client, params: dict[str, str]) -> dict[str, str]:
    """What the login keeps of the request. OAuthError for the redirect where it is wrong."""
    oauth.need_grant(client, "authorization_code")
    if params.get("response_type") != "code":
        raise OAuthError("unsupported_response_type", "Only response_type=code is supported.")
    if "request" in params or "request_uri" in params:
        raise OAuthError("request_not_supported", "Request objects are not supported.")
    if params.get("code_challenge_method") != "S256" or not CHALLENGE.match(params.get("code_challenge", "")):
        raise OAuthError("invalid_request", "PKCE is required: code_challenge with code_challenge_method=S256.")
    if any(len(params.get(n, "")) > 1024 for n in ("state", "nonce", "scope")):
        raise OAuthError("invalid_request", "state, nonce and scope may have 1024 characters each.")
    scope = oauth.scopes_within(params.get("scope", ""), client.scopes)
    if "openid" not in scope:
        raise OAuthError("invalid_scope", "The scope openid is required.")
    if params.get("prompt") == "none":
        raise OAuthError("login_required", "The user must sign in.")
    kept = {n: params.get(n, "") for n in ("client_id", "redirect_uri", "state", "nonce", "code_challenge")}
    return kept | {"scope": " ".join(scope)}


def routes(issuer: Issuer) -> APIRouter:
    router = APIRouter()

    def login_form(client: Client, uri: str, login: str, *, wrong: bool = False) -> HTMLResponse:
        return pages.login(client.id, login, "{0.scheme}://{0.netloc}".format(urlsplit(uri)), wrong)

    def refused(error: OAuthError) -> HTMLResponse:
        return pages.refused(error.description)

    @router.get("/oidc/authorize")
    async def authorize(request: Request) -> Response:
        try:
            params = oauth.query(request)
            client, uri = _target(issuer, params)
        except OAuthError as error:
            return refused(error)
        try:
            kept = _checked(client, params)
            if issuer.store.pending_count("login") >= MAX_WAITING:
                raise OAuthError("temporarily_unavailable", "Too many logins wait; try again in some minutes.")
        except OAuthError as error:
            answer = {
                "error": error.error,
                "error_description": error.description,
                "state": params.get("state", "")[:1024],
                "iss": issuer.url,
            }
            return RedirectResponse(with_query(uri, answer), 303, headers=oauth.NO_STORE)
        login = secrets.token_urlsafe(24)
        issuer.store.put_pending("login", login, {**kept, "tries": 0}, issuer.config.lifetimes.login)
        return login_form(client, uri, login)

    @router.post("/oidc/authorize")
    async def submit(request: Request) -> Response:
        try:
            given = await oauth.form(request)
            login = given.get("login", "")
            found = issuer.store.get_pending("login", login)
            if found is None or found[1] <= time.time():
                raise OAuthError("invalid_request", "This login has ended or was used before.")
            kept = found[0]
            client, uri = _target(issuer, kept)
        except OAuthError as error:
            return refused(error)
        user = sign_in(issuer, given.get("username", ""), given.get("password", ""))
        if user is None:
            kept["tries"] += 1
            issuer.store.count("login_failures")
            if kept["tries"] >= MAX_TRIES:
                issuer.store.drop_pending("login", login)
                return refused(OAuthError("access_denied", "Too many wrong passwords."))
            issuer.store.set_pending("login", login, kept)
            return login_form(client, uri, login, wrong=True)
        issuer.store.drop_pending("login", login)
        code = secrets.token_urlsafe(32)
        body = {**kept, "sub": user.sub, "auth_time": int(time.time()), "family": ""}
        issuer.store.put_pending("code", code, body, issuer.config.lifetimes.code)
        issuer.store.count("logins", user.sub)
        return RedirectResponse(
            with_query(uri, {"code": code, "state": kept["state"], "iss": issuer.url}), 303, headers=oauth.NO_STORE
        )

    return router
