"""Signing a user in as a portal would: authorization code with PKCE, the login form posted by a program. For the demo
and tests.
"""

from __future__ import annotations

import base64
import hashlib
import html
import re
import secrets
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, urljoin, urlsplit

import httpx

from gdi.kit.tls import authorities

SCOPE = "openid profile offline_access ga4gh_passport_v1"
LOGIN = re.compile(r'name="?login"? value="([^"]+)"')


class SignInError(Exception):
    """The user could not be signed in; the message holds neither password nor token."""


@dataclass(frozen=True)
class TokenAnswer:
    """What the provider gave; secrets do not show in `repr`. Lifetimes in seconds."""

    access_token: str = field(repr=False)
    expires_in: int
    scope: str
    refresh_token: str | None = field(default=None, repr=False)
    refresh_expires_in: int | None = None
    id_token: str | None = field(default=None, repr=False)


def pkce() -> tuple[str, str]:
    """A fresh verifier and its S256 challenge (RFC 7636)."""
    verifier = secrets.token_urlsafe(48)
    return verifier, base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()


def submit_login(client: httpx.Client, authorize_url: str, username: str, password: str) -> str:
    """Opens an authorization URL, fills in the login form, and gives the URL to which the provider redirects.
    SignInError otherwise.
    """
    shown = client.get(authorize_url)
    found = LOGIN.search(shown.text)
    if shown.status_code != 200 or found is None:
        where = shown.headers.get("location", "")
        error = parse_qs(urlsplit(where).query).get("error_description", [f"no login form (HTTP {shown.status_code})"])[
            0
        ]
        raise SignInError(f"The provider does not let {username} sign in: {error}")
    action = urljoin(str(shown.url), "authorize")
    answer = client.post(action, data={"login": html.unescape(found[1]), "username": username, "password": password})
    if answer.status_code not in (302, 303):
        raise SignInError(
            f"The provider refused the sign-in of {username} (HTTP {answer.status_code}): user name or password is"
            " wrong."
        )
    return str(answer.headers["location"])


def sign_in(
    issuer: str,
    *,
    client_id: str,
    client_secret: str | None,
    redirect_uri: str,
    username: str,
    password: str,
    scope: str = SCOPE,
    timeout: float = 30,
) -> TokenAnswer:
    """The whole code flow against `issuer` (http://…/oidc). SignInError names the step that failed; httpx.HTTPError
    where the server is away.
    """
    verifier, challenge = pkce()
    state, nonce = secrets.token_urlsafe(16), secrets.token_urlsafe(16)
    with httpx.Client(timeout=timeout, follow_redirects=False, trust_env=False, verify=authorities()) as client:
        answer = client.get(f"{issuer.rstrip('/')}/.well-known/openid-configuration")
        if answer.status_code != 200:
            raise SignInError(f"No discovery document at {issuer} (HTTP {answer.status_code}).")
        endpoints: dict[str, Any] = answer.json()
        parameters = {
            "response_type": "code",
            "client_id": client_id,
            "redirect_uri": redirect_uri,
            "scope": scope,
            "state": state,
            "nonce": nonce,
        }
        url = httpx.URL(
            endpoints["authorization_endpoint"],
            params={**parameters, "code_challenge": challenge, "code_challenge_method": "S256"},
        )
        back = parse_qs(urlsplit(submit_login(client, str(url), username, password)).query)
        if back.get("state") != [state] or back.get("iss", [issuer]) != [endpoints["issuer"]]:
            raise SignInError("The provider's redirect carries another state or issuer than was asked for.")
        if "code" not in back:
            raise SignInError(
                f"The provider refused: {back.get('error_description', back.get('error', ['no code']))[0]}"
            )
        form = {
            "grant_type": "authorization_code",
            "code": back["code"][0],
            "redirect_uri": redirect_uri,
            "code_verifier": verifier,
        }
        if client_secret is None:
            given = client.post(endpoints["token_endpoint"], data={**form, "client_id": client_id})
        else:
            given = client.post(endpoints["token_endpoint"], data=form, auth=(client_id, client_secret))
    if given.status_code != 200:
        raise SignInError(f"The provider did not redeem the code (HTTP {given.status_code}): {_description(given)}")
    body = given.json()
    return TokenAnswer(
        body["access_token"],
        body.get("expires_in", 0),
        body.get("scope", scope),
        body.get("refresh_token"),
        body.get("refresh_expires_in"),
        body.get("id_token"),
    )


def _description(answer: httpx.Response) -> str:
    try:
        return str(answer.json().get("error_description", ""))[:300]
    except ValueError:
        return "no reason given"
