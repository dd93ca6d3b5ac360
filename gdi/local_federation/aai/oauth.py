"""What the OAuth endpoints share: errors in RFC 6749's form, forms read strictly, and who the calling client is."""

from __future__ import annotations

import base64
import binascii
import hmac
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qsl, unquote_plus

from fastapi import Request
from fastapi.responses import JSONResponse

from gdi.kit.canonical import sha256_hex
from gdi.local_federation.aai.config import AaiConfig, Client

NO_STORE = {"Cache-Control": "no-store", "Pragma": "no-cache"}
MAX_FIELDS = 40
CLOCK_SKEW = 5  # seconds


class OAuthError(Exception):
    """`error` and `error_description` of RFC 6749 §5.2; no secret may be put into the description."""

    def __init__(
        self, error: str, description: str, status: int = 400, *, headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(description)
        self.error, self.description, self.status, self.headers = error, description, status, dict(headers or {})

    def response(self) -> JSONResponse:
        return JSONResponse(
            {"error": self.error, "error_description": self.description},
            self.status,
            headers={**NO_STORE, **self.headers},
        )


def invalid_client(description: str) -> OAuthError:
    return OAuthError(
        "invalid_client", description, 401, headers={"WWW-Authenticate": 'Basic realm="aai", charset="UTF-8"'}
    )


def same(a: str, b: str) -> bool:
    """Whether two secrets are equal, in a time that tells neither where they differ nor how long they are."""
    return hmac.compare_digest(sha256_hex(a.encode()), sha256_hex(b.encode()))


def single_valued(pairs: list[tuple[str, str]]) -> dict[str, str]:
    """RFC 6749 §3.1: a parameter may not be given twice, and one without a value counts as omitted."""
    found: dict[str, str] = {}
    for name, value in pairs:
        if name in found:
            raise OAuthError("invalid_request", f"The parameter {name[:40]} is given more than once.")
        found[name] = value
    return {n: v for n, v in found.items() if v}


async def form(request: Request) -> dict[str, str]:
    """The body as a form. OAuthError invalid_request where it is none."""
    kind = request.headers.get("content-type", "").split(";")[0].strip().lower()
    if kind != "application/x-www-form-urlencoded":
        raise OAuthError("invalid_request", "Send the parameters as application/x-www-form-urlencoded.")
    try:
        text = (await request.body()).decode("utf-8")
        return single_valued(parse_qsl(text, keep_blank_values=True, max_num_fields=MAX_FIELDS, errors="strict"))
    except ValueError:
        raise OAuthError(
            "invalid_request", "The body is not a form in UTF-8 with a reasonable number of fields."
        ) from None


def query(request: Request) -> dict[str, str]:
    try:
        return single_valued(
            parse_qsl(request.url.query, keep_blank_values=True, max_num_fields=MAX_FIELDS, errors="strict")
        )
    except ValueError:
        raise OAuthError(
            "invalid_request", "The query is not form-encoded UTF-8 with a reasonable number of fields."
        ) from None


def required(params: Mapping[str, str], name: str, *, longest: int = 8192) -> str:
    value = params.get(name, "")
    if not value:
        raise OAuthError("invalid_request", f"The parameter {name} is missing.")
    if len(value) > longest:
        raise OAuthError("invalid_request", f"The parameter {name} is longer than {longest} characters.")
    return value


def authenticate(config: AaiConfig, request: Request, params: Mapping[str, str]) -> Client:
    """The client that calls: by HTTP Basic, by `client_id` and `client_secret` in the form, or by `client_id` alone
    where it is public. RFC 6749 §2.3.
    """
    header = request.headers.get("authorization", "")
    if header:
        if "client_secret" in params:
            raise OAuthError("invalid_request", "Authenticate in one way only: by Basic or in the form.")
        scheme, _, value = header.partition(" ")
        if scheme.lower() != "basic":
            raise invalid_client("The client must authenticate by HTTP Basic or in the form.")
        try:
            name, _, secret = base64.b64decode(value.strip(), validate=True).decode("utf-8").partition(":")
        except (binascii.Error, UnicodeDecodeError):
            raise invalid_client("The Basic credentials are malformed.") from None
        client_id, given = unquote_plus(name), unquote_plus(secret)
        if params.get("client_id", client_id) != client_id:
            raise OAuthError("invalid_request", "client_id differs from the one that authenticated.")
    else:
        client_id, given = params.get("client_id", ""), params.get("client_secret", "")
    client = config.client(client_id)
    expected = client.secret.get_secret_value() if client and client.secret else ""
    # Compared also where the client is unknown, so that the time does not tell which ids exist.
    equal = same(given, expected)
    if client is None or client.jwks or (client.secret is None and given) or (client.secret is not None and not equal):
        raise invalid_client("Unknown client or wrong secret.")
    return client


def need_grant(client: Client, grant: str) -> None:
    if grant not in client.grants:
        raise OAuthError("unauthorized_client", f"The client {client.id} is not registered for {grant}.")


def scopes_within(scope: str, allowed: list[str]) -> list[str]:
    """The asked scopes, in order, none twice. OAuthError invalid_scope naming the first that is not allowed."""
    found: list[str] = []
    for name in scope.split():
        if name not in allowed:
            raise OAuthError("invalid_scope", f"The scope {name[:60]} may not be asked for here.")
        if name not in found:
            found.append(name)
    return found


def bearer(request: Request) -> str:
    """The token of RFC 6750 §2.1. OAuthError 401 where there is none."""
    scheme, _, value = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not value.strip():
        raise OAuthError(
            "invalid_request",
            "Send an access token: Authorization: Bearer …",
            401,
            headers={"WWW-Authenticate": "Bearer"},
        )
    return value.strip()


def bearer_error(error: str, description: str, status: int = 401) -> OAuthError:
    challenge: dict[str, Any] = {"WWW-Authenticate": f'Bearer error="{error}", error_description="{description}"'}
    return OAuthError(error, description, status, headers=challenge)
