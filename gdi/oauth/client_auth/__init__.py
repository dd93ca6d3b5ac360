"""How the client proves to the provider who it is: one module for each standard that defines a method."""

from __future__ import annotations

from typing import Any, Protocol


class ClientAuthentication(Protocol):
    """`method`: its name in `token_endpoint_auth_methods_supported` (RFC 8414 §2)."""

    @property
    def method(self) -> str: ...

    def prepare(self, token_endpoint: str) -> tuple[Any, Any]:
        """(Authlib's `client_secret`, what Authlib's `register_client_auth_method` takes): for one call only.

        Secrets are read anew each time, so that a rotated file is seen. Any exception: they cannot be read now.
        """
        ...
