"""The cookies of `/connect`: the sign-in under way (state, nonce, PKCE verifier) and the session (who, CSRF token).
No user token is in them.
"""

from __future__ import annotations

from typing import Any

from fastapi import Request, Response

from gdi.kit.web import Cookies
from gdi.oauth.client import SCOPE
from gdi.oauth.sign_in import SignIn
from token_broker.broker import Broker

SIGN_IN, SESSION = "gdi_signin", "gdi_session"
LIFETIMES = {SIGN_IN: 600, SESSION: 900}


def _cookies(b: Broker) -> Cookies:
    return Cookies(b.key, b.settings.public_url, "/connect", LIFETIMES, b.used_ids)


def sign_in(b: Broker) -> SignIn:
    """How users sign in at these pages."""
    callback = f"{b.settings.public_url}/connect/callback"
    return SignIn(b.oidc, _cookies(b), cookie=SIGN_IN, callback=callback, scope=SCOPE, provider="LS AAI")


def put(b: Broker, response: Response, name: str, claims: dict[str, Any]) -> None:
    _cookies(b).put(response, name, claims)


async def session(b: Broker, request: Request) -> dict[str, Any] | None:
    """Who is signed in; None too where they signed out, whoever still has the cookie."""
    return await _cookies(b).session(request, SESSION)


async def sign_out(b: Broker, claims: dict[str, Any], response: Response) -> None:
    await _cookies(b).sign_out(claims, response, SESSION)


async def checked_form(b: Broker, request: Request) -> tuple[dict[str, Any], dict[str, list[str]]]:
    return await _cookies(b).checked_form(request, SESSION)
