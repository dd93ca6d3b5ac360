"""Vault's answers, judged before anybody believes them: hvac's adapter, which takes a proxy's page, a redirect or a cut
answer for Vault's word and fails over it later, in the middle of storing a token.

Vault's own errors are JSON, `{"errors": [...]}` (https://developer.hashicorp.com/vault/api-docs#error-response); its
404 for a deleted version of a secret carries `data` instead. Whatever looks otherwise is UnusableAnswer.
"""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

import hvac
import requests
from hvac import adapters
from hvac import exceptions as hx

TIMEOUT = 10  # seconds for one call, of which the answer's body may take all
MAX_ANSWER = 1024 * 1024  # bytes, decompressed; a record is some kilobytes
REFUSALS: dict[int, type[hx.VaultError]] = {
    400: hx.InvalidRequest,
    401: hx.Unauthorized,
    403: hx.Forbidden,
    404: hx.InvalidPath,
}


class UnusableAnswer(hx.VaultError):  # type: ignore[misc]  # hvac has no types
    """No answer of Vault's, or none that says what became of the request. The message carries nothing secret."""

    def __init__(self, why: str) -> None:
        super().__init__(why)
        self.why = why


class JudgedAdapter(adapters.RawAdapter):  # type: ignore[misc]  # hvac has no types
    """Each request's answer as its JSON object; `{}` for 204 (No Content). hvac's InvalidRequest, Unauthorized,
    Forbidden and InvalidPath only where Vault itself says so, UnusableAnswer otherwise.
    """

    def get_login_token(self, response: dict[str, Any]) -> str:
        auth = response.get("auth")
        token = auth.get("client_token") if isinstance(auth, dict) else None
        if not isinstance(token, str) or not token:
            raise UnusableAnswer("the login's answer holds no token")
        return token

    def request(
        self,
        method: str,
        url: str,
        headers: dict[str, str] | None = None,
        raise_exception: bool = True,
        **kwargs: Any,  # requests' own arguments
    ) -> dict[str, Any]:
        answer = super().request(method, url, headers=headers, raise_exception=False, stream=True, **kwargs)
        try:
            return judged(answer.status_code, _body(answer))
        finally:
            answer.close()

    def _raise_for_error(self, method: str, url: str, response: requests.Response) -> None:
        """Nothing: `judged` does."""


def judged(status: int, body: bytes) -> dict[str, Any]:
    """The answer's JSON object, or the error that it is."""
    if status == 204:
        return {}
    fields = _json_object(body)
    if status == 200 and fields is not None and "errors" not in fields:
        return fields
    errors = fields.get("errors") if fields is not None else None
    vaults = isinstance(errors, list) and all(isinstance(e, str) for e in errors)
    if status in REFUSALS and vaults:
        raise REFUSALS[status](errors=errors, json=fields)
    if status == 404 and fields is not None and isinstance(fields.get("data"), dict):
        raise hx.InvalidPath(json=fields)
    raise UnusableAnswer(f"HTTP {status}, {'JSON' if fields is not None else 'no JSON object'}")


def client(addr: str, *, ca_file: Path | None, namespace: str | None) -> hvac.Client:
    """An hvac client that follows no redirect and takes nothing of the environment: no proxy, no token, no
    certificate, no netrc.
    """
    session = requests.Session()
    session.trust_env = False
    session.verify = str(ca_file) if ca_file is not None else os.environ.get("SSL_CERT_FILE") or True
    return hvac.Client(
        url=addr,
        token="",
        cert=(),
        verify=session.verify,
        timeout=TIMEOUT,
        proxies={},
        allow_redirects=False,
        session=session,
        adapter=JudgedAdapter,
        namespace=namespace,
    )


def _body(answer: requests.Response) -> bytes:
    """The whole body. UnusableAnswer where it is cut, too large, or drips for too long."""
    deadline, body = time.monotonic() + TIMEOUT, bytearray()
    length = answer.headers.get("content-length", "")
    try:
        while part := answer.raw.read1(65536, decode_content=True):
            body += part
            if len(body) > MAX_ANSWER:
                raise UnusableAnswer("the answer is too large")
            if time.monotonic() > deadline:
                raise UnusableAnswer("the answer takes too long")
    except UnusableAnswer:
        raise
    except Exception as error:  # urllib3's and the socket's, of many families
        raise UnusableAnswer(f"the answer was cut ({type(error).__name__})") from None
    if length.isdigit() and "content-encoding" not in answer.headers and len(body) < int(length):
        raise UnusableAnswer("the answer was cut")
    return bytes(body)


def _json_object(body: bytes) -> dict[str, Any] | None:
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None
