"""Token introspection (RFC 7662)."""

from __future__ import annotations

from typing import Any

from gdi.oauth.connection import ProviderConnection
from gdi.oauth.session import JudgedAnswer


async def introspect(provider: ProviderConnection, token: str, hint: str = "access_token") -> dict[str, Any]:
    """What the provider knows of the token: §2.2, at least `active`."""
    client = await provider.authlib("the introspection")
    url = await provider.endpoint("introspection_endpoint")
    answer: JudgedAnswer = await client.introspect_token(url, token=token, token_type_hint=hint)
    return answer.fields
