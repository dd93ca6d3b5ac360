"""`client_secret_basic` (RFC 6749 §2.3.1): client id and secret by HTTP Basic, each form-encoded first."""

from __future__ import annotations

import base64
from collections.abc import Callable, MutableMapping
from typing import Any
from urllib.parse import quote


class ClientSecretBasic:
    """`read` gives the secret; it is called for each request."""

    method = "client_secret_basic"

    def __init__(self, read: Callable[[], str]) -> None:
        self._read = read

    def prepare(self, token_endpoint: str) -> tuple[Any, Any]:
        return self._read(), (self.method, encode)


def encode(
    client: Any, method: str, uri: str, headers: MutableMapping[str, str], body: bytes
) -> tuple[str, MutableMapping[str, str], bytes]:
    """In place of Authlib's, which does not form-encode: a secret with `:`, `%` or `+` would be another one."""
    pair = f"{quote(client.client_id, safe='')}:{quote(client.client_secret, safe='')}"
    headers["Authorization"] = "Basic " + base64.b64encode(pair.encode()).decode()
    return uri, headers, body
