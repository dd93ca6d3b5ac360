"""The device authorization grant: a code shown on a terminal, typed into a browser. RFC 8628."""

from __future__ import annotations

import secrets
import time
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response

from gdi.local_federation.aai import clients, oauth, pages
from gdi.local_federation.aai.authorize import sign_in
from gdi.local_federation.aai.config import Client
from gdi.local_federation.aai.oauth import OAuthError
from gdi.local_federation.aai.tokens import Issuer

ALPHABET = "BCDFGHJKLMNPQRSTVWXZ"  # RFC 8628 §6.1: no vowels, no words
MAX_WAITING = 1000
MAX_WRONG_PER_MINUTE = 20  # a user code is short: guessing must be slow


def redeem(issuer: Issuer, client: Client, device_code: str) -> dict[str, Any]:
    """One poll. authorization_pending, slow_down, access_denied or expired_token as RFC 8628 §3.5 says, else the
    tokens, once.
    """
    found = issuer.store.get_pending("device", device_code)
    if found is None or found[0]["client_id"] != client.id:
        raise OAuthError("invalid_grant", "The device_code is unknown or was used before; start again.")
    body, exp = found
    if exp <= time.time():
        issuer.store.drop_pending("device", device_code)
        raise OAuthError("expired_token", "The device_code has ended; start again.")
    now = time.time()
    early = now - body["polled"] < body["interval"] - 0.5
    body["polled"] = now
    if early:
        body["interval"] += 5
    issuer.store.set_pending("device", device_code, body)
    if early:
        raise OAuthError("slow_down", f"Poll every {body['interval']} seconds at most.")
    decision = issuer.store.get_pending("user_code", body["user_code"])
    if decision is None or not decision[0]["decided"]:
        raise OAuthError("authorization_pending", "The user has not decided yet; poll again.")
    issuer.store.drop_pending("device", device_code)
    issuer.store.drop_pending("user_code", body["user_code"])
    if decision[0]["decided"] != "allow":
        raise OAuthError("access_denied", "The user refused.")
    sub = decision[0]["sub"]
    with issuer.store.transaction():
        family = issuer.new_family(sub, client.id, int(now))
        return issuer.answer(family, sub, client, body["scope"].split(), auth_time=int(now))


def routes(issuer: Issuer) -> APIRouter:
    router = APIRouter()
    wrong: list[float] = []

    @router.post("/oidc/devicecode")
    async def start(request: Request) -> JSONResponse:
        params = await oauth.form(request)
        client = clients.authenticate(issuer, request, params)
        oauth.need_grant(client, "device_code")
        scope = oauth.scopes_within(params.get("scope", "openid"), client.scopes)
        if issuer.store.pending_count("device") >= MAX_WAITING:
            raise OAuthError("temporarily_unavailable", "Too many devices wait; try again in some minutes.", 503)
        device_code = secrets.token_urlsafe(32)
        letters = "".join(secrets.choice(ALPHABET) for _ in range(8))
        user_code = f"{letters[:4]}-{letters[4:]}"
        life, interval = issuer.config.lifetimes.device, issuer.config.device_interval
        waiting = {
            "client_id": client.id,
            "scope": " ".join(scope),
            "user_code": user_code,
            "polled": 0,
            "interval": interval,
        }
        issuer.store.put_pending("device", device_code, waiting, life)
        issuer.store.put_pending("user_code", user_code, {"client_id": client.id, "decided": "", "sub": ""}, life)
        uri = f"{issuer.url}/device"
        body = {
            "device_code": device_code,
            "user_code": user_code,
            "verification_uri": uri,
            "verification_uri_complete": f"{uri}?user_code={user_code}",
        }
        return JSONResponse(body | {"expires_in": life, "interval": interval}, headers=oauth.NO_STORE)

    @router.get("/oidc/device")
    async def show(request: Request) -> Response:
        return pages.device(oauth.query(request).get("user_code", "")[:20])

    @router.post("/oidc/device")
    async def decide(request: Request) -> Response:
        given = await oauth.form(request)
        now = time.time()
        wrong[:] = [t for t in wrong if now - t < 60]
        if len(wrong) >= MAX_WRONG_PER_MINUTE:
            return pages.device("", "Too many wrong codes or passwords; try again in a minute.", 429)
        letters = "".join(c for c in given.get("user_code", "")[:20].upper() if c in ALPHABET)
        user_code = f"{letters[:4]}-{letters[4:]}"
        found = issuer.store.get_pending("user_code", user_code)
        user = sign_in(issuer, given.get("username", ""), given.get("password", ""))
        if found is None or found[1] <= now or found[0]["decided"] or user is None:
            wrong.append(now)
            return pages.device(
                user_code if letters else "", "The code or the password is wrong, or the code has ended.", 401
            )
        decision = "allow" if given.get("decision") == "allow" else "deny"
        issuer.store.set_pending("user_code", user_code, {**found[0], "decided": decision, "sub": user.sub})
        return pages.device_done()

    return router
