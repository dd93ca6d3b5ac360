"""Token revocation (RFC 7009)."""

from __future__ import annotations

from gdi.oauth.connection import ProviderConnection


async def revoke(provider: ProviderConnection, token: str, hint: str = "refresh_token") -> None:
    """Ends the token at the provider. An unknown one is no error there, and the answer's body says nothing (§2.2)."""
    client = await provider.authlib("the revocation", body_matters=False)
    await client.revoke_token(await provider.endpoint("revocation_endpoint"), token=token, token_type_hint=hint)
