"""Token introspection (RFC 7662)."""

from __future__ import annotations

from typing import Any

from gdi.oauth.connection import ProviderConnection
from gdi.oauth.errors import OAuthUnavailable
from gdi.oauth.session import JudgedAnswer


async def introspect(provider: ProviderConnection, token: str, hint: str = "access_token") -> dict[str, Any]:
    """What the provider knows of the token: §2.2, at least `active`, a boolean. OAuthUnavailable where that is missing:
    who wrote such an answer did not judge the token.
    """
    client = await provider.authlib("the introspection")
    url = await provider.endpoint("introspection_endpoint")
    answer: JudgedAnswer = await client.introspect_token(url, token=token, token_type_hint=hint)
    if not isinstance(answer.fields.get("active"), bool):
        raise OAuthUnavailable("the introspection", "its answer does not say whether the token is active", sent=True)
    return answer.fields
